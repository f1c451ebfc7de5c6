/** `policy mutate`: breaks the policy in one place at a time; fixtures that test every rule notice each. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { parse as parseYaml } from "yaml";
import { z } from "zod";
import { type Bundle, loadBundle } from "../../../gateway/policy/bundle.ts";
import { Policy } from "../../../gateway/policy/policy.ts";
import { opaBuildCommand } from "../build.ts";
import { parseLine } from "../line.ts";
import { copySources, policiesFolder, sourceData } from "../sources.ts";
import { type Fixture, fixturePaths, readFixture } from "../test/fixture-file.ts";
import { firstFailure, type NamedSession } from "../test/fixture-sessions.ts";
import { runRegoTests } from "../test/rego-tests.ts";
import { type Mutant, readMutants } from "./mutants.ts";

export const mutateUsage = `usage: bun run policy mutate [paths] [options]

  paths              fixture files or folders (fixtures/sessions)
  --only <text>      mutants whose description has it
  --no-rego-tests    does not ask what Rego's unit tests notice
  --verbose          also what noticed each`;

const equivalentFile = resolve(import.meta.dir, "../../../fixtures/equivalent-mutants.yaml");
const equivalentSchema = z.record(z.string(), z.string().min(1));

type Fate =
  | { readonly kind: "caught"; readonly by: string }
  | { readonly kind: "survived" }
  /** OPA refuses it: nobody could ship it. */
  | { readonly kind: "invalid"; readonly why: string };

interface Tried {
  readonly mutant: Mutant;
  readonly fate: Fate;
  readonly noticedByRego: boolean;
}

/** @returns the exit code: 1 where a mutant survives that is not listed as equivalent. */
export async function mutate(line: readonly string[]): Promise<number> {
  const { values, positionals } = parseLine(mutateUsage, {
    args: [...line],
    allowPositionals: true,
    allowNegative: true,
    options: {
      only: { type: "string" },
      "rego-tests": { type: "boolean", default: true },
      verbose: { type: "boolean", default: false },
    },
  });
  const started = performance.now();
  const sessions = new Sessions(fixturePaths(positionals).map(readFixture));
  const { only } = values;
  const mutants = readMutants(policiesFolder).filter(({ key }) => only === undefined || key.includes(only));
  const equivalent = equivalentSchema.parse(parseYaml(readFileSync(equivalentFile, "utf8")) ?? {});
  const work = mkdtempSync(join(tmpdir(), "sallyport-mutants-"));
  const tried: Tried[] = [];
  try {
    const policy = await compile(copyOf(work, "unchanged"));
    const unchanged = await sessions.notice(policy);
    if (unchanged !== undefined) {
      console.error(`the fixtures fail without any change (${unchanged}): run policy test`);
      return 1;
    }
    const queue = mutants.values();
    const worker = async (folder: string) => {
      for (const mutant of queue) {
        const one = await tryMutant(mutant, folder, policy.bundle, sessions, values["rego-tests"]);
        tried.push(one);
        if (values.verbose || (one.fate.kind === "survived" && !Object.hasOwn(equivalent, mutant.key))) {
          console.log(describe(one));
        }
      }
    };
    const folders = Array.from({ length: Math.min(8, availableParallelism()) }, (_, index) =>
      copyOf(work, String(index)),
    );
    await Promise.all(folders.map(worker));
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return summarise(tried, equivalent, only !== undefined, values["rego-tests"], performance.now() - started);
}

function summarise(
  tried: readonly Tried[],
  equivalent: Readonly<Record<string, string>>,
  partial: boolean,
  rego: boolean,
  ms: number,
): number {
  const of = (kind: Fate["kind"]) => tried.filter(({ fate }) => fate.kind === kind);
  const survived = of("survived");
  const listed = survived.filter(({ mutant }) => Object.hasOwn(equivalent, mutant.key));
  const valid = tried.length - of("invalid").length;
  const unlisted = survived.length - listed.length;
  console.log(
    `${valid} mutants in ${(ms / 1_000).toFixed(0)} s: ${of("caught").length} caught by the fixtures, ` +
      `${listed.length} listed as equivalent, ${unlisted} survived (${of("invalid").length} more do not compile)`,
  );
  if (rego) {
    const noticed = tried.filter(({ fate, noticedByRego }) => fate.kind !== "invalid" && noticedByRego);
    console.log(`Rego's unit tests alone notice ${noticed.length} of them`);
  }
  if (!partial) {
    for (const key of Object.keys(equivalent)) {
      if (!listed.some(({ mutant }) => mutant.key === key)) {
        console.log(`no longer survives or exists, remove it from ${relative(process.cwd(), equivalentFile)}: ${key}`);
      }
    }
  }
  return unlisted > 0 ? 1 : 0;
}

function describe({ mutant, fate, noticedByRego }: Tried): string {
  const what = { caught: "caught  ", survived: "SURVIVED", invalid: "invalid " }[fate.kind];
  const place = `${relative(process.cwd(), policiesFolder)}/${mutant.file}:${mutant.line}`;
  const more = fate.kind === "caught" ? fate.by : fate.kind === "invalid" ? fate.why : "";
  const rego = fate.kind === "survived" && noticedByRego ? "  (Rego's unit tests notice it)" : "";
  return `${what}  ${place}  ${mutant.key}${rego}${more && `\n            ${more}`}`;
}

function copyOf(work: string, name: string): string {
  const folder = join(work, name);
  copySources(folder);
  return folder;
}

async function tryMutant(
  mutant: Mutant,
  folder: string,
  unchanged: Bundle,
  sessions: Sessions,
  rego: boolean,
): Promise<Tried> {
  const path = join(folder, mutant.file);
  writeFileSync(path, mutant.text);
  try {
    let policy: Policy;
    try {
      // The module knows nothing of data.
      policy = await compile(folder, mutant.file.endsWith(".rego") ? undefined : unchanged);
    } catch (error) {
      const [why = ""] = (error as Error).message.split("\n");
      return { mutant, fate: { kind: "invalid", why }, noticedByRego: false };
    }
    const by = await sessions.notice(policy);
    const noticedByRego = rego && (await regoNotices(folder));
    return { mutant, fate: by === undefined ? { kind: "survived" } : { kind: "caught", by }, noticedByRego };
  } finally {
    writeFileSync(path, readFileSync(join(policiesFolder, mutant.file)));
  }
}

/** Tests that no longer compile notice as well. */
function regoNotices(folder: string): Promise<boolean> {
  return runRegoTests(folder).then(
    (tests) => tests.some(({ failure }) => failure !== undefined),
    () => true,
  );
}

/** The session that noticed something last comes first: the next mutant is of the same rule. */
class Sessions {
  readonly #order: NamedSession[];

  constructor(fixtures: readonly Fixture[]) {
    this.#order = fixtures.flatMap((fixture) => fixture.sessions.map((session) => ({ fixture, session })));
  }

  /** Which step gives something else, or which session ends in a fault, for people. */
  async notice(policy: Policy): Promise<string | undefined> {
    for (const one of [...this.#order]) {
      const step = await firstFailure(policy, one).catch((fault: Error) => ({ line: 1, run: fault.message }));
      if (step === undefined) continue;
      this.#order.splice(this.#order.indexOf(one), 1);
      this.#order.unshift(one);
      return `${relative(process.cwd(), one.fixture.path)}:${step.line} ${one.session.name}: ${step.run}`;
    }
    return undefined;
  }
}

/** @throws Error with OPA's message, or the loader's */
async function compile(folder: string, compiled?: Bundle): Promise<Policy> {
  return new Policy({ ...(compiled ?? (await build(folder))), data: sourceData(folder) });
}

async function build(folder: string): Promise<Bundle> {
  const bundle = `${folder}.tar.gz`;
  const run = Bun.spawn(opaBuildCommand(folder, bundle), { cwd: folder, stdout: "pipe", stderr: "pipe" });
  const messages = await new Response(run.stderr).text();
  if ((await run.exited) !== 0) throw new Error(messages.trim());
  return await loadBundle({ bundle });
}
