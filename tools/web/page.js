// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The Tidewire authors
//
// The page: one room, one WebSocket. The server knows nothing of names or presence: it hands every
// message to every member, the sender included. What the members of this page say to each other:
//
//   {type: "hello", id, name, at}          "I came": everyone answers with here
//   {type: "here", id, name, at}           "I am still here", also sent every HEARTBEAT_MS
//   {type: "say", id, name, text, n, at}   a message; n counts up per sender
//   {type: "bye", id}                      "I leave"
//
// id is random per tab, at is the sender's own clock: when it comes back it gives the round trip.
// A message stays in the outbox until it came back, so what was typed offline, and what was lost
// with a connection, goes out again; n lets receivers drop what they already have. Other members
// may send anything at all: it is shown as text, never as markup.
'use strict';

const BACKOFF_FIRST_MS = 1000;
const BACKOFF_MAX_MS = 30000;
const STABLE_MS = 5000;           // a connection that lived this long resets the backoff
const HEARTBEAT_MS = 20000;
const MEMBER_SILENT_MS = 50000;   // two missed heartbeats and some
const MEMBERS_MAX = 500;
const ANSWER_SPREAD_MS = 300;     // answers to a hello are spread over this long
const OUTBOX_MAX = 100;
const LOG_MAX = 500;
const TEXT_SHOWN_MAX = 4000;
const BYTES_SHOWN_MAX = 32;
const RENDER_MS = 50;
const RATE_WINDOW_S = 5;
const ROOM_BYTES_MAX = 255;

const CLOSE_CODES = {
  1000: 'normal end', 1001: 'going away', 1002: 'protocol error', 1003: 'unsupported data',
  1005: 'no code given', 1006: 'connection lost', 1007: 'invalid data', 1008: 'policy violation',
  1009: 'message too large', 1010: 'extension missing', 1011: 'server error',
  1012: 'server restarts', 1013: 'server is busy, try again later', 1014: 'bad gateway',
  1015: 'TLS failed',
};

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const room = query.get('room') || 'lobby';
const me = {id: randomId(), name: sessionStorage.getItem('name') || ''};
if (!me.name)
  me.name = 'guest-' + me.id.slice(0, 4);

function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');
}

// The log -----------------------------------------------------------------------------------------

// Lines are gathered and put into the document together: a room may be faster than a screen.
const log = {
  lines: [],
  timer: 0,

  add(line) {
    this.lines.push(line);
    if (this.lines.length > LOG_MAX)
      this.lines.shift();
    if (!this.timer)
      this.timer = setTimeout(() => this.flush(), RENDER_MS);
  },

  flush() {
    const list = $('log');
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    this.timer = 0;
    list.append(...this.lines);
    this.lines = [];
    while (list.childElementCount > LOG_MAX)
      list.firstElementChild.remove();
    if (atEnd)
      list.scrollTop = list.scrollHeight;
  },
};

function element(tag, className, text) {
  const e = document.createElement(tag);
  if (className)
    e.className = className;
  if (text !== undefined)
    e.textContent = text;
  return e;
}

function cut(text, max) {
  return text.length > max ? `${text.slice(0, max)}… (${text.length} characters)` : text;
}

function logLine(className, who, text) {
  const line = element('li', className);
  const now = new Date();
  const time = element('time', '', now.toLocaleTimeString());
  time.dateTime = now.toISOString();
  line.append(time);
  if (who !== null)
    line.append(element('span', 'who', who));
  line.append(element('span', 'what', cut(text, TEXT_SHOWN_MAX)));
  log.add(line);
  return line;
}

const logEvent = (text) => logLine('event', null, text);

function notice(text) {
  $('notice').textContent = text;
  $('notice').hidden = !text;
}

// Figures -----------------------------------------------------------------------------------------

const figures = {
  received: 0,
  seconds: new Array(RATE_WINDOW_S).fill(0),

  count() {
    this.received++;
    this.seconds[0]++;
  },

  tick() {
    const sum = this.seconds.reduce((a, b) => a + b, 0);
    $('rate').textContent = (sum / RATE_WINDOW_S).toFixed(1);
    $('received').textContent = String(this.received);
    this.seconds.unshift(0);
    this.seconds.pop();
  },

  roundTrip(at) {
    const ms = performance.now() - at;
    if (ms >= 0)
      $('rtt').textContent = ms < 10 ? `${ms.toFixed(2)} ms` : `${ms.toFixed(0)} ms`;
  },
};

// Members -----------------------------------------------------------------------------------------

const members = {
  byId: new Map(),   // id → {name, seen, n}; n: the last message number shown

  // Returns the member, or null when the table is full.
  see(id, name) {
    let member = this.byId.get(id);
    if (!member) {
      if (this.byId.size >= MEMBERS_MAX)
        return null;
      member = {name, seen: 0, n: 0};
      this.byId.set(id, member);
      if (id !== me.id)
        logEvent(`${name} is here`);
      this.render();
    } else if (member.name !== name) {
      logEvent(`${member.name} is now ${name}`);
      member.name = name;
      this.render();
    }
    member.seen = performance.now();
    return member;
  },

  leave(id, how) {
    const member = this.byId.get(id);
    if (!member || id === me.id)
      return;
    this.byId.delete(id);
    logEvent(`${member.name} ${how}`);
    this.render();
  },

  // Without a connection nobody's absence can be seen: only an open one judges the silent.
  expire() {
    const now = performance.now();
    for (const [id, member] of this.byId)
      if (now - member.seen > MEMBER_SILENT_MS)
        this.leave(id, 'has gone silent');
  },

  forgiveSilence() {
    const now = performance.now();
    for (const member of this.byId.values())
      member.seen = now;
  },

  render() {
    const items = [];
    for (const [id, member] of this.byId) {
      const item = element('li', '', member.name);
      if (id === me.id)
        item.append(element('span', 'you', ' (you)'));
      items.push(item);
    }
    $('members').replaceChildren(...items);
    $('here-count').textContent = String(items.length);
  },
};

// Outbox: what was typed and has not come back yet ------------------------------------------------

const outbox = {
  items: [],   // {n, text, line, sent}
  n: 0,

  add(text) {
    if (this.items.length >= OUTBOX_MAX)
      return false;
    const line = logLine('mine pending', me.name, text);
    this.items.push({n: ++this.n, text, line, sent: false});
    this.flush();
    return true;
  },

  flush() {
    for (const item of this.items) {
      if (item.sent || !link.isOpen())
        continue;
      item.sent = true;
      link.send({type: 'say', name: me.name, text: item.text, n: item.n});
    }
    this.render();
  },

  // The connection is gone: what did not come back goes out again on the next one.
  unsend() {
    for (const item of this.items)
      item.sent = false;
    this.render();
  },

  cameBack(n) {
    while (this.items.length && this.items[0].n <= n)
      this.items.shift().line.classList.remove('pending');
    this.render();
  },

  // The server closed because of the message on its way: sending it again would loop.
  failFirst() {
    const item = this.items[0];
    if (!item || !item.sent)
      return;
    this.items.shift();
    item.line.className = 'mine failed';
    item.line.append(' (not delivered: too large)');
  },

  render() {
    const waiting = this.items.filter((item) => !item.sent).length;
    $('queued').hidden = waiting === 0;
    $('queued').textContent =
        `${waiting} of at most ${OUTBOX_MAX} messages wait for the connection`;
  },
};

// What arrives ------------------------------------------------------------------------------------

function parse(text) {
  let m;
  try {
    m = JSON.parse(text);
  } catch {
    return null;
  }
  const known = m !== null && typeof m === 'object' && typeof m.id === 'string' &&
                m.id.length <= 64 && ['hello', 'here', 'say', 'bye'].includes(m.type);
  if (!known || (m.type === 'say' && typeof m.text !== 'string'))
    return null;
  m.name = cut(typeof m.name === 'string' && m.name ? m.name : m.id, 40);
  return m;
}

function onSay(m, member) {
  const mine = m.id === me.id;
  if (mine)
    outbox.cameBack(m.n);
  if (member && typeof m.n === 'number') {
    if (m.n <= member.n)
      return;
    member.n = m.n;
  }
  if (!mine)
    logLine('said', m.name, m.text);
}

function onText(text) {
  const m = parse(text);
  if (!m) {
    logLine('raw', null, text);
    return;
  }
  if (m.type === 'bye') {
    members.leave(m.id, 'has left');
    return;
  }
  const member = members.see(m.id, m.name);
  if (m.id === me.id && typeof m.at === 'number')
    figures.roundTrip(m.at);
  if (m.type === 'hello' && m.id !== me.id)
    setTimeout(() => link.send({type: 'here', name: me.name}), Math.random() * ANSWER_SPREAD_MS);
  if (m.type === 'say')
    onSay(m, member);
}

function onBytes(buffer) {
  const bytes = new Uint8Array(buffer, 0, Math.min(buffer.byteLength, BYTES_SHOWN_MAX));
  const hex = Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join(' ');
  const more = buffer.byteLength > BYTES_SHOWN_MAX ? ' …' : '';
  logLine('raw', null, `binary, ${buffer.byteLength} bytes: ${hex}${more}`);
}

// The connection ----------------------------------------------------------------------------------

const link = {
  socket: null,
  retriesMax: retriesAllowed(),
  retries: 0,        // attempts since the last stable connection
  opened: 0,         // connections that opened, ever
  timer: 0,          // the next attempt
  nextAt: 0,
  stableTimer: 0,

  isOpen() {
    return this.socket !== null && this.socket.readyState === WebSocket.OPEN;
  },

  send(message) {
    if (this.isOpen())
      this.socket.send(JSON.stringify({...message, id: me.id, at: performance.now()}));
  },

  connect() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.show('connecting', 'Connecting');
    const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(
        `${scheme}//${location.host}/rooms/${encodeURIComponent(room)}`);
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => this.onOpen();
    socket.onmessage = (event) => {
      figures.count();
      if (typeof event.data === 'string')
        onText(event.data);
      else
        onBytes(event.data);
    };
    socket.onclose = (event) => this.onClose(event);
    this.socket = socket;
  },

  onOpen() {
    this.opened++;
    $('reconnects').textContent = String(this.opened - 1);
    this.show('open', 'Connected');
    notice('');
    this.stableTimer = setTimeout(() => {
      this.retries = 0;
    }, STABLE_MS);
    members.forgiveSilence();
    this.send({type: 'hello', name: me.name});
    outbox.flush();
  },

  onClose(event) {
    const wasOpen = this.stableTimer !== 0;
    clearTimeout(this.stableTimer);
    this.stableTimer = 0;
    this.socket = null;
    $('rtt').textContent = '–';
    if (event.code === 1009)
      outbox.failFirst();
    outbox.unsend();
    this.report(event, wasOpen);
    this.retryLater();
  },

  // A reason that the server gave stays on show while attempts to come back fail.
  report(event, wasOpen) {
    const meaning = CLOSE_CODES[event.code] || 'code of the application';
    const reason = event.reason ? `: ${event.reason}` : '';
    if (event.code !== 1006)
      notice(`The server closed the connection with code ${event.code} (${meaning})${reason}`);
    else if (wasOpen)
      notice('The connection was lost (code 1006).');
    else if ($('notice').hidden)
      notice('The server cannot be reached or refused the connection.');
    if (wasOpen || event.code !== 1006)
      logEvent(`Disconnected: code ${event.code} (${meaning})${reason}`);
  },

  // Exponential backoff with full jitter: anything from nothing to the current bound.
  retryLater() {
    if (this.retries >= this.retriesMax) {
      this.show('stopped', this.retriesMax === 0 ?
          'Disconnected' : `Disconnected, gave up after ${this.retries} retries`);
      return;
    }
    const bound = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(this.retries, 10));
    const delay = Math.random() * bound;
    this.retries++;
    this.nextAt = performance.now() + delay;
    this.timer = setTimeout(() => this.connect(), delay);
    this.show('waiting', `Disconnected, retry ${this.retries}` +
        (this.retriesMax === Infinity ? '' : ` of ${this.retriesMax}`));
  },

  // By hand, or because the network came back.
  retryNow() {
    if (this.socket !== null || $('connection').dataset.state === 'connecting')
      return;
    if ($('connection').dataset.state === 'stopped')
      this.retries = 0;
    this.connect();
  },

  show(state, text) {
    $('connection').dataset.state = state;
    $('connection').dataset.retries = String(this.retries);
    $('state').textContent = text;
    $('retry').hidden = state !== 'waiting' && state !== 'stopped';
    this.showCountdown();
  },

  showCountdown() {
    const left = this.timer ? Math.max(0, this.nextAt - performance.now()) : 0;
    $('countdown').textContent = left > 0 ? `in ${Math.ceil(left / 1000)} s` : '';
  },
};

function retriesAllowed() {
  const given = query.get('retries');
  return given !== null && /^[0-9]{1,9}$/.test(given) ? Number(given) : Infinity;
}

// What is wrong with the room's name, or an empty string. Browsers take . and .. out of a path.
function roomProblem() {
  if (new TextEncoder().encode(room).length > ROOM_BYTES_MAX)
    return `The name of a room has at most ${ROOM_BYTES_MAX} bytes.`;
  if (room === '.' || room === '..')
    return 'A browser cannot ask for a room of this name.';
  return '';
}

// Start -------------------------------------------------------------------------------------------

function onSubmit(id, handler) {
  $(id).addEventListener('submit', (event) => {
    event.preventDefault();
    handler();
  });
}

function wireForms() {
  onSubmit('say-form', () => {
    const text = $('text').value;
    if (!text)
      return;
    if (outbox.add(text))
      $('text').value = '';
    else
      notice(`${OUTBOX_MAX} messages wait already: no more until the connection is back.`);
  });
  onSubmit('name-form', () => {
    me.name = $('name').value.trim() || me.name;
    $('name').value = me.name;
    sessionStorage.setItem('name', me.name);
    members.see(me.id, me.name);
    link.send({type: 'here', name: me.name});
  });
  onSubmit('room-form', () => {
    query.set('room', $('room').value);
    location.search = query.toString();
  });
  $('retry').addEventListener('click', () => link.retryNow());
}

function start() {
  $('room').value = room;
  $('name').value = me.name;
  document.title = `${room} · Tidewire`;
  members.see(me.id, me.name);
  wireForms();
  setInterval(() => {
    figures.tick();
    link.showCountdown();
    if (link.isOpen())
      members.expire();
  }, 1000);
  setInterval(() => link.send({type: 'here', name: me.name}), HEARTBEAT_MS);
  addEventListener('online', () => link.retryNow());
  addEventListener('pagehide', () => {
    link.send({type: 'bye'});
    if (link.socket)
      link.socket.close(1000);
  });
  const problem = roomProblem();
  if (problem) {
    notice(problem);
    $('connection').dataset.state = 'stopped';
    $('state').textContent = 'Not connected';
    return;
  }
  link.connect();
}

start();
