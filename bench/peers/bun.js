// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The Tidewire authors

// Bun's server, uWebSockets inside: /echo, and /rooms/NAME, where everyone gets every message.
//
//     bun bun.js [CERT KEY]        prints "listening PORT"; with files of PEM it speaks TLS
//
// Compression off, no idle time-out, limits of back-pressure out of the way; one thread. A message
// of a room goes to the others by the server's own publish(), which is its fastest way, and back to
// its sender.

const LIMIT = 64 * 1024 * 1024;
const [cert, key] = process.argv.slice(2);

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  ...(cert ? { tls: { cert: Bun.file(cert), key: Bun.file(key) } } : {}),
  fetch(request, server) {
    const path = new URL(request.url).pathname;
    const room = path.startsWith("/rooms/") ? path : null;
    if (server.upgrade(request, { data: room })) return undefined;
    return new Response("a WebSocket is wanted", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: 0,
    sendPings: false,
    maxPayloadLength: LIMIT,
    backpressureLimit: LIMIT,
    closeOnBackpressureLimit: false,
    publishToSelf: true,
    open(ws) {
      if (ws.data !== null) ws.subscribe(ws.data);
    },
    message(ws, message) {
      if (ws.data === null) ws.send(message);
      else ws.publish(ws.data, message);
    },
  },
});

console.log(`listening ${server.port}`);
