// A decision service as one would write it in Node: `http`, `JSON.parse`, the rules of rules.mjs, `JSON.stringify`.
//
//   node benches/rivals/node_http.mjs SOCKET
//
// `cargo bench --bench http` starts it on a Unix socket of its own, beside the daemon and a bare hyper echo. It looks
// nothing up, counts nothing and checks next to nothing: less than the daemon does for the same answer.

import { createServer } from "node:http";

import { decide } from "./rules.mjs";

const socket = process.argv[2];
if (socket === undefined) {
  console.error("usage: node node_http.mjs SOCKET");
  process.exit(2);
}

createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    let status = 200;
    let answer;
    try {
      const body = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
      answer = decide(JSON.parse(body.toString("utf8")));
    } catch (error) {
      status = 400;
      answer = { error: String(error) };
    }
    const text = Buffer.from(JSON.stringify(answer));
    response.writeHead(status, { "content-type": "application/json", "content-length": text.length });
    response.end(text);
  });
}).listen(socket);
