/**
 * `bun run bench impact`: how fast recorded commands are judged again. Makes a store of 100,000 commands through the
 * gateway's analyser, session pipeline and writer, changes the policy's data, and compares; `--check` holds the result
 * against an evaluation of every command without any cache, which takes minutes.
 */
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { loadBundle } from "../../gateway/policy/bundle.ts";
import { Policy } from "../../gateway/policy/policy.ts";
import { defaultBundle } from "../policy/build.ts";
import { bruteForce, differences, foundChanges } from "../policy/impact/brute-force.ts";
import { generateStore } from "../policy/impact/generated-store.ts";
import { judgeStore } from "../policy/impact/judge-store.ts";
import type { Change } from "../policy/impact/replay.ts";

const { values } = parseArgs({
  args: process.argv.slice(3),
  options: {
    commands: { type: "string", default: "100000" },
    statements: { type: "string", default: "4000" },
    rounds: { type: "string", default: "3" },
    threads: { type: "string", default: "2" },
    check: { type: "boolean", default: false },
  },
});

/** Writes by agents are held no longer, an e-mail address is shown as a hash, on-call reads only. */
const change = `agents: { hold: [ddl, novel] }
labels: { pii: { mask: hash } }
targets: { demo: { access: { oncall: [read] } } }
`;

const folder = mkdtempSync(join(tmpdir(), "sallyport-bench-"));
try {
  const [file, data] = [join(folder, "store.db"), join(folder, "head.yaml")];
  writeFileSync(data, change);
  const base = await loadBundle({ bundle: defaultBundle });
  const head = await loadBundle({ bundle: defaultBundle, data });
  const made = performance.now();
  const [commands, statements] = [Number(values.commands), Number(values.statements)];
  const kinds = await generateStore({
    ...{ file, policy: new Policy(base), commands, statements },
    ...{ commandsPerSession: 50, seed: 1 },
  });
  const bytes = statSync(file).size;
  console.log(
    `store: ${commands} commands, ${kinds} analyses, ${(bytes / 2 ** 20).toFixed(1)} MiB, made in ${((performance.now() - made) / 1_000).toFixed(1)} s`,
  );
  const setup = { base, head, pastData: {}, catalogs: {}, store: { url: `file:${file}` }, sinceMs: 0 };
  for (let round = 1; round <= Number(values.rounds); round++) {
    const changes: Change[] = [];
    const report = { progress: () => undefined, changes: (some: readonly Change[]) => void changes.push(...some) };
    const startedAt = performance.now();
    const tally = await judgeStore({ ...setup, eachChange: values.check }, report, Number(values.threads));
    const elapsedMs = performance.now() - startedAt;
    const rate = Math.round((tally.commands / elapsedMs) * 1_000);
    const shown = Object.entries(tally.kinds).map(([kind, of]) => `${kind} ${of.commands}`);
    console.log(
      `round ${round}: ${tally.commands} commands in ${(elapsedMs / 1_000).toFixed(2)} s: ${rate} a second on ${values.threads} threads, start included; ` +
        `${tally.changed} decided otherwise (${shown.join(", ")}), ${tally.reproduced} reproduced, ${tally.drifted} drifted`,
    );
    if (!values.check) continue;
    const slow = await bruteForce({ ...setup, store: setup.store.url });
    const wrong = differences(foundChanges(changes), slow.changed).length;
    console.log(
      `check: of ${slow.commands} commands ${slow.changed.size} decided otherwise; ${wrong} missed or invented`,
    );
    if (wrong > 0) process.exitCode = 1;
    break;
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
