// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The Tidewire authors
//
// Two clients of the ws package in one room: every kind of message from one to the other, pings,
// and the closing handshake. Prints what happened as JSON. Usage: talk.js URL on|off
'use strict';

const {once} = require('node:events');
const {createRequire} = require('node:module');
const WebSocket = createRequire(process.env.NODE_MODULES + '/')('ws');

const [url, compress] = process.argv.slice(2);

async function open() {
  const socket = new WebSocket(url, {perMessageDeflate: compress === 'on'});
  socket.received = [];
  socket.on('message', (data, isBinary) => {
    socket.received.push(isBinary ? 'binary:' + data.toString('hex') : 'text:' + data.toString());
    socket.emit('one-more');
  });
  await once(socket, 'open');
  return socket;
}

async function until(socket, count) {
  while (socket.received.length < count)
    await once(socket, 'one-more');
}

// A message that came back to its sender proves that it is in the room.
async function join(newcomer, members) {
  const token = 'join ' + Math.random();
  newcomer.send(token);
  for (const member of members) {
    while (!member.received.includes('text:' + token))
      await once(member, 'one-more');
    member.received.length = 0;
  }
}

async function main() {
  const a = await open();
  const b = await open();
  await join(b, [b]);
  await join(a, [a, b]);

  a.send('Grüße');
  a.send(Buffer.from([0, 1, 254, 255]));
  a.send('');
  a.send('frag', {fin: false});
  a.send('mented');
  a.send('x'.repeat(60000));
  await until(a, 5);
  await until(b, 5);

  a.ping('payload');
  const [pong] = await once(a, 'pong');
  a.close(4001, 'done');
  const [code] = await once(a, 'close');
  b.terminate();
  console.log(JSON.stringify({
    same: JSON.stringify(a.received) === JSON.stringify(b.received),
    short: b.received.slice(0, 4), long: b.received[4].length,
    pong: pong.toString(), code, extensions: a.extensions,
  }));
}

setTimeout(() => {
  console.error('not done in time');
  process.exit(1);
}, 20000).unref();
main();
