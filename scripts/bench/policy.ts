/**
 * `bun run bench policy`: what a decision costs, for the default policy set and for one with a package of 300 generated
 * rules more, and what the sets cost to compile. The input is a SELECT of five columns as the gateway's analyser gives
 * it. An evaluation goes from the input's text to the checked decision; a first judgement also makes that text and the
 * cache's key of an analysis that nobody ran before; a repeated one is answered by the cache. Last, what memory so many
 * evaluations took.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { loadBundle } from "../../gateway/policy/bundle.ts";
import { Engine } from "../../gateway/policy/engine.ts";
import type { CommandAnalysis, CommandInput } from "../../gateway/policy/input.ts";
import { Policy } from "../../gateway/policy/policy.ts";
import { VisibleInput, visibleText } from "../../gateway/policy/visible-input.ts";
import { Watchdog } from "../../gateway/policy/watchdog.ts";
import { buildBundle, defaultBundle, opaBuild } from "../policy/build.ts";
import { openDryRun } from "../policy/dry-run.ts";
import { copySources } from "../policy/sources.ts";
import { catalogOf, identityOf, identitySchema } from "../policy/subject.ts";
import { generatedRules } from "./generated-rules.ts";

const { values } = parseArgs({
  args: process.argv.slice(3),
  options: { evaluations: { type: "string", default: "20000" }, rules: { type: "string", default: "300" } },
});
const evaluations = Number(values.evaluations);

async function gatewayInput(policy: Policy): Promise<CommandInput> {
  const run = await openDryRun({
    policy,
    identity: identityOf(identitySchema.parse({ email: "ann@example.com", groups: ["analysts", "staff"] })),
    target: { name: "demo", kind: "postgres", database: "demo", labels: { env: "prod" } },
    catalog: catalogOf("demo", process.cwd()),
  });
  const text = "select id, name, email, country, created_at from customers where id = 7 limit 20";
  return (await run.run({ text })).input;
}

function frozen<T>(value: T): T {
  if (typeof value === "object" && value !== null) for (const item of Object.values(value)) frozen(item);
  return Object.freeze(value);
}

interface Cost {
  readonly medianUs: number;
  /** The median of the quietest twentieth of the run, for a machine that others use. */
  readonly quietUs: number;
  readonly p10Us: number;
  /** Of the whole process: garbage collection and compilation by other threads count. */
  readonly cpuUs: number;
}

function median(nanoseconds: number[]): number {
  return (nanoseconds.sort((a, b) => a - b)[nanoseconds.length >> 1] ?? 0) / 1_000;
}

function cpuOf(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

/** Each call on its own clock; what it is given is made before. The processor's time is that of both without the making. */
function measure<T>(make: (index: number) => T, call: (given: T) => void): Cost {
  const times: number[] = [];
  const round = (timed: boolean) => {
    for (let index = 0; index < evaluations; index++) {
      const given = make(index);
      const started = Bun.nanoseconds();
      call(given);
      if (timed) times.push(Bun.nanoseconds() - started);
    }
  };
  round(false);
  const both = cpuOf(() => round(true));
  let made: T | undefined;
  const making = cpuOf(() => {
    for (let index = 0; index < evaluations; index++) made = make(index);
  });
  if (made === undefined && make(0) !== undefined) throw new Error("nothing was made");
  const rounds = Array.from({ length: 20 }, (_, index) =>
    median(times.slice((index * evaluations) / 20, ((index + 1) * evaluations) / 20)),
  );
  times.sort((a, b) => a - b);
  const at = (share: number) => (times[Math.floor(times.length * share)] ?? 0) / 1_000;
  return { medianUs: at(0.5), quietUs: Math.min(...rounds), p10Us: at(0.1), cpuUs: (both - making) / evaluations };
}

/** @returns what makes the text of the input that the policy can see, of another caller each time */
function inputsOf(policy: Policy, { command, now, ...base }: CommandInput): (index: number) => string {
  const { digest, novel, params, ...analysis } = command;
  const { commandPaths } = policy.bundle;
  if (commandPaths === undefined) throw new Error("the bundle does not say what it sees");
  const visible = new VisibleInput(commandPaths);
  return (index) => {
    const identity = { ...base.identity, email: `ann${index}@example.com` };
    return visibleText(
      visible.sessionMembers({ ...base, identity }),
      visible.analysisMembers(analysis),
      visible.restMembers({ digest, novel, params }),
      visible.nowMembers(now),
    );
  };
}

function judging(policy: Policy, input: CommandInput) {
  const { command, now, ...base } = input;
  const { digest, novel, params, ...analysis } = command;
  const rest = { digest, novel, params };
  let round = 0;
  const engine = new Engine(policy.bundle, watchdog);
  const evaluated = measure(inputsOf(policy, input), (text) => engine.evaluateCommand(text, digest));
  const uncached = measure(
    (index) => {
      // Another caller and another analysis each time: nothing is known of either.
      const identity = { ...base.identity, email: `ann${round++}.${index}@example.com` };
      const judge = policy.forSession({ ...base, identity });
      return { judge, analysis: frozen(structuredClone(analysis)) as CommandAnalysis };
    },
    (given) => {
      if (given.judge.judge(given.analysis, rest, now).cached) throw new Error("not an evaluation");
    },
  );
  const judge = policy.forSession(base);
  const known = frozen(structuredClone(analysis)) as CommandAnalysis;
  judge.judge(known, rest, now);
  const cached = measure(
    () => undefined,
    () => {
      if (!judge.judge(known, rest, now).cached) throw new Error("not cached");
    },
  );
  return { evaluated, uncached, cached };
}

function row(name: string, { medianUs, quietUs, p10Us, cpuUs }: Cost, aimUs?: number): string {
  const cells = [medianUs, quietUs, p10Us, cpuUs].map((us) => us.toFixed(1).padStart(8));
  return `${name.padEnd(32)}${cells.join("")}${aimUs === undefined ? "" : `< ${aimUs}`.padStart(8)}`;
}

const mebibytes = (bytes: number) => (bytes / 2 ** 20).toFixed(1);

/** Resident memory after a full collection; so measured, it moves by a few MiB where nothing grows. */
function residentBytes(): number {
  Bun.gc(true);
  return process.memoryUsage.rss();
}

/** What evaluations leave behind: memory after the first tenth of them, and after all. */
function memoryRow(policy: Policy, input: CommandInput): string {
  const engine = new Engine(policy.bundle, watchdog);
  const textOf = inputsOf(policy, input);
  const at = Array.from({ length: 10 }, (_, tenth) => {
    for (let index = 0; index < evaluations / 10; index++) {
      engine.evaluateCommand(textOf(tenth * evaluations + index), input.command.digest);
    }
    return { wasm: engine.memoryBytes, resident: residentBytes() };
  });
  const [first = { wasm: 0, resident: 0 }] = at;
  const last = at.at(-1) ?? first;
  const wasm = `WebAssembly ${mebibytes(first.wasm)} MiB after a tenth, ${mebibytes(last.wasm)} after all`;
  const resident = `resident ${mebibytes(first.resident)} and ${mebibytes(last.resident)} MiB`;
  return `memory of ${evaluations} evaluations: ${wasm}; ${resident}`;
}

/** The default set's sources with a package of generated rules in main.rego's lists. */
function generatedFolder(work: string, rules: number): string {
  const folder = join(work, "policies");
  copySources(folder);
  mkdirSync(join(folder, "generated"));
  writeFileSync(join(folder, "generated/generated.rego"), generatedRules(rules));
  const main = readFileSync(join(folder, "main.rego"), "utf8")
    .replace("import data.sallyport.labels", "import data.sallyport.generated\nimport data.sallyport.labels")
    .replace("dangerous.deny,", "dangerous.deny, generated.deny,")
    .replace("[agents.approve", "[generated.approve, agents.approve")
    .replace("[labels.mask", "[generated.mask, labels.mask");
  if (main.split("generated.").length !== 4) throw new Error("main.rego has other lists than expected");
  writeFileSync(join(folder, "main.rego"), main);
  return folder;
}

const work = mkdtempSync(join(tmpdir(), "sallyport-bench-"));
// As the gateway has it: each evaluation tells it when it begins and ends.
const watchdog = await Watchdog.start();
try {
  const standard = new Policy(await loadBundle({ bundle: defaultBundle }), watchdog);
  const input = await gatewayInput(standard);
  const rules = Number(values.rules);
  const folder = generatedFolder(work, rules);
  const opaStarted = performance.now();
  opaBuild(folder, join(work, "opa.tar.gz"));
  const opaMs = performance.now() - opaStarted;
  const buildStarted = performance.now();
  const bundle = join(work, "bundle.tar.gz");
  writeFileSync(bundle, buildBundle(folder));
  const buildMs = performance.now() - buildStarted;
  const large = new Policy(await loadBundle({ bundle }), watchdog);
  console.log(`load average ${loadavg()[0]?.toFixed(1)}, ${evaluations} evaluations each, microseconds`);
  console.log(`${"".padEnd(32)}  median   quiet     p10     cpu     aim`);
  for (const [name, policy, aim] of [
    ["default set", standard, 60] as const,
    [`${rules} more rules`, large, 400] as const,
  ]) {
    const { evaluated, uncached, cached } = judging(policy, input);
    console.log(row(`${name}, evaluation`, evaluated, aim));
    console.log(row(`${name}, first judgement`, uncached));
    console.log(row(`${name}, repeated`, cached, 3));
  }
  console.log(memoryRow(standard, input));
  console.log(
    `opa build of ${rules} more rules ${(opaMs / 1_000).toFixed(2)} s (aim < 2 s); policy build ${(buildMs / 1_000).toFixed(2)} s`,
  );
} finally {
  watchdog.stop();
  rmSync(work, { recursive: true, force: true });
}
