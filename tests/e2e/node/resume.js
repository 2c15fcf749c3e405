// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The Tidewire authors
//
// A client of Node's tls module that gets a page, several times, each time by the session of the
// time before. Prints as JSON what each answer was and whether it was by a resumed session. Usage:
// resume.js PORT CA VERSION TIMES [CERT KEY]
'use strict';

const {once} = require('node:events');
const {readFileSync} = require('node:fs');
const tls = require('node:tls');

const [port, ca, version, times, cert, key] = process.argv.slice(2);

async function get(session) {
  const socket = tls.connect({
    port, session, host: '127.0.0.1', servername: 'localhost', ca: readFileSync(ca),
    minVersion: version, maxVersion: version,
    ...(cert && {cert: readFileSync(cert), key: readFileSync(key)}),
  });
  let answer = '', next = session;
  socket.setEncoding('latin1').on('data', chunk => answer += chunk);
  socket.on('session', data => next = data);
  await once(socket, 'secureConnect');
  const resumed = socket.isSessionReused();
  socket.write('GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
  await once(socket, 'close');
  return {status: Number(answer.split(' ')[1]), resumed, next};
}

async function main() {
  const said = [];
  for (let session, i = 0; i < times; i++) {
    const {next, ...outcome} = await get(session);
    said.push(outcome);
    session = next;
  }
  console.log(JSON.stringify(said));
}

main().catch(error => {
  console.error(error);
  process.exit(1);
});
