// The nine criteria in JavaScript on the stream that `rivals --dump FILE` wrote:
//
//   node benches/rivals/node.mjs FILE [--quick]
//
// Timed: `score(message, channels)` of rules.mjs, facts in as plain objects, which is what JSON.parse leaves in
// Node, so that nothing has to be converted. Out come scores, order, reasons, the choice and two alternatives. It must
// first say of every request what is expected; so must `decide`, which starts at the request, where nothing is known
// beyond it. CPU time of the whole process, collector and compiler threads included; median of rounds after a warm-up.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { decide, score } from "./rules.mjs";

const file = process.argv[2];
if (file === undefined || file.startsWith("--")) {
  console.error("usage: node node.mjs STREAM.jsonl [--quick]");
  process.exit(2);
}
const ROUNDS = process.argv.includes("--quick") ? 3 : 9;
const WARM_UP = 5;

const cases = readFileSync(file, "utf8").trimEnd().split("\n").map((line) => JSON.parse(line));

function check({ request, known, message, channels, expected }, at) {
  const { ranked, chosen, alternatives } = score(message, channels);
  const said = {
    ranked: ranked.map(({ channel, open, score, reasons }) => ({ channel, open, score, reasons })),
    chosen: chosen?.channel ?? null,
    alternatives: alternatives.map(({ channel }) => channel),
  };
  assert.deepEqual(said, expected, `score differs on request ${at}`);
  if (known) return;
  const decision = decide(request);
  assert.equal(decision.channel, expected.chosen, `decide differs on request ${at}`);
  assert.deepEqual(decision.alternativeChannels.map(({ channel }) => channel), expected.alternatives);
  if (expected.chosen !== null) {
    assert.equal(decision.reason, expected.ranked[0].reasons.join("; "));
  }
}

// What is made is kept from the optimizer by being counted.
let counted = 0;

function lap() {
  const before = process.cpuUsage();
  for (const { message, channels } of cases) {
    counted += score(message, channels).alternatives.length;
  }
  const { user, system } = process.cpuUsage(before);
  return ((user + system) * 1000) / cases.length;
}

cases.forEach(check);
console.log(`${cases.length} requests: Node gives the same order, scores and reasons`);
for (let round = 0; round < WARM_UP; round++) lap();
const laps = Array.from({ length: ROUNDS }, lap).sort((a, b) => a - b);
const median = laps[laps.length >> 1];
assert(counted > 0);
console.log(`Node ${process.version}: ${median.toFixed(0)} ns/decision, ${(1e9 / median).toFixed(0)} decisions/s`);
console.log(`figure: rivals.node ${median.toFixed(1)} ns`);
