// SPDX-License-Identifier: MIT
// Copyright (c) 2026 The Tidewire authors

// The `ws` package on Node: /echo, and /rooms/NAME, where everyone gets every message.
//
//     node ws.js        prints "listening PORT"
//
// Compression off, UTF-8 of text unchecked, one thread. A room is a plain loop over its members,
// as the package's own documentation has it.

const { WebSocketServer } = require("ws");

const rooms = new Map();
const server = new WebSocketServer({
  host: "127.0.0.1",
  port: 0,
  backlog: 4096,
  perMessageDeflate: false,
  skipUTF8Validation: true,
  maxPayload: 64 * 1024 * 1024,
});

function join(path, socket) {
  let members = rooms.get(path);
  if (members === undefined) rooms.set(path, (members = new Set()));
  members.add(socket);
  socket.on("close", () => members.delete(socket));
  socket.on("message", (data, binary) => {
    for (const member of members) member.send(data, { binary });
  });
}

server.on("connection", (socket, request) => {
  socket._socket.setNoDelay(true);
  socket.on("error", () => socket.terminate());
  if (request.url.startsWith("/rooms/")) join(request.url, socket);
  else socket.on("message", (data, binary) => socket.send(data, { binary }));
});
server.on("listening", () => console.log(`listening ${server.address().port}`));
