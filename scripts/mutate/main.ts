/**
 * `bun run mutate [--limits] [--only <text>]`: breaks each invariant on purpose in a copy of the checkout, one mutation
 * at a time, and runs the test that must notice. Exits 1 where one survives, or where its search text is gone.
 */
import { parseArgs } from "node:util";
import { limitMutations } from "./limit-mutations.ts";
import type { Mutation } from "./mutation.ts";
import { mutations } from "./mutations.ts";
import { Scratch } from "./scratch.ts";

type Verdict = "red" | "SURVIVED" | "NOT RUN" | "ROTTEN" | "NOT GREEN BEFORE";

const { values } = parseArgs({
  options: {
    /** Each limit out of reach, instead of the list. */
    limits: { type: "boolean", default: false },
    only: { type: "string" },
    verbose: { type: "boolean", default: false },
  },
});
const only = values.only?.toLowerCase();
const chosen = (values.limits ? limitMutations() : mutations).filter(
  ({ what, test }) => only === undefined || `${what} ${test.file}`.toLowerCase().includes(only),
);
if (chosen.length === 0) throw new Error(`no mutation has "${values.only}" in its words or its test's file`);

const scratch = new Scratch();
process.once("SIGINT", () => {
  scratch.remove();
  process.exit(130);
});
/** By test: what it says of the checkout as it is. A red one would prove nothing. */
const green = new Map<string, boolean>();

async function judge({ edits, test }: Mutation): Promise<{ verdict: Verdict; why: string }> {
  const key = JSON.stringify(test);
  if (!green.has(key)) {
    const ran = await scratch.run(test);
    green.set(key, ran.passed > 0 && ran.failed === 0);
    if (values.verbose && !green.get(key)) console.log(ran.output);
  }
  if (!green.get(key)) return { verdict: "NOT GREEN BEFORE", why: `${test.file} did not pass as it is` };
  try {
    const ran = await scratch.mutated(edits, () => scratch.run(test));
    if (values.verbose) console.log(ran.output);
    if (ran.passed + ran.failed === 0) return { verdict: "NOT RUN", why: "no test ran: does it still load?" };
    return ran.failed > 0 ? { verdict: "red", why: "" } : { verdict: "SURVIVED", why: `${ran.passed} passed` };
  } catch (error) {
    return { verdict: "ROTTEN", why: (error as Error).message };
  }
}

let survived = 0;
try {
  for (const mutation of chosen) {
    const from = performance.now();
    const { verdict, why } = await judge(mutation);
    if (verdict !== "red") survived += 1;
    const seconds = ((performance.now() - from) / 1_000).toFixed(1);
    const { invariant, what, test } = mutation;
    console.log(
      `${verdict.padEnd(9)} ${String(invariant).padEnd(4)} ${what.padEnd(60)} ${seconds.padStart(6)} s  ${test.file.replace("gateway/", "")}${why && `\n          ${why}`}`,
    );
  }
} finally {
  scratch.remove();
}
console.log(`${chosen.length - survived} of ${chosen.length} mutations were noticed`);
process.exit(survived > 0 ? 1 : 0);
