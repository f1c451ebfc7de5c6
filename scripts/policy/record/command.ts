/**
 * `policy test --record`: a recorded session as a fixture. What people put into statements is replaced (`placeholders.ts`);
 * rows, claims and context are not taken. A step that does not come again as it was recorded is left out and told.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { Document, isMap, isSeq, parse as parseYaml } from "yaml";
import { parseDataFile } from "../../../gateway/policy/data.ts";
import { Policy } from "../../../gateway/policy/policy.ts";
import { optionsOfUrl, readLiveCatalog } from "../catalog/live.ts";
import { catalogOf, loadSources } from "../subject.ts";
import { type FixtureStep, fixturesFolder, readFixture } from "../test/fixture-file.ts";
import { runFixture, type StepResult } from "../test/fixture-sessions.ts";
import { catalogOfAnalyses, catalogOfSnapshot } from "./needed-catalog.ts";
import { type Kept, placeholder, withoutValues } from "./placeholders.ts";
import { type RecordedSession, type RecordedStep, readRecordedSession } from "./recorded-session.ts";

export interface RecordOptions {
  readonly store?: string | undefined;
  readonly gateway?: string | undefined;
  /** Where to; `fixtures/sessions/recorded-<id>.yaml` when not given. */
  readonly out?: string | undefined;
  /** The names of the target, as for `explain`; else what the recording itself has of them. */
  readonly catalog?: string | undefined;
  readonly connect?: string | undefined;
  readonly bundle?: string | undefined;
  /** A deployment's data; what it says goes into the fixture. */
  readonly data?: string | undefined;
}

/** How much a step keeps of its text; tried in this order. */
const attempts: readonly Kept[] = [{ smallIntegers: false }, { smallIntegers: true }];

interface Attempted {
  readonly step: RecordedStep;
  attempt: number;
}

/** @returns the exit code: 1 where nothing of the session comes again. */
export async function record(id: string, options: RecordOptions): Promise<number> {
  const session = await readRecordedSession(id, options.store, options.gateway);
  const out = options.out ?? join(fixturesFolder, `recorded-${id.slice(0, 8)}.yaml`);
  if (existsSync(out)) throw new Error(`${out} is there already`);
  const policy = new Policy((await loadSources({ bundle: options.bundle })).bundle);
  const catalog = await neededCatalog(session, options);
  const data = dataOf(session, options.data);
  let kept: Attempted[] = session.steps.map((step) => ({ step, attempt: 0 }));
  const left: RecordedStep[] = [];
  const work = mkdtempSync(join(tmpdir(), "sallyport-record-"));
  try {
    const trial = join(work, "trial.yaml");
    for (;;) {
      writeFileSync(trial, fixtureText(session, kept, left, catalog, data));
      const failure = await firstDifference(policy, trial);
      if (failure === undefined) break;
      if (failure.number === 0)
        throw new Error(`the opening does not come again: ${JSON.stringify(failure.differences)}`);
      const one = kept[failure.number - 1];
      if (one === undefined) throw new Error("a step that is not there failed");
      if (++one.attempt < attempts.length) continue;
      kept = kept.filter((other) => other !== one);
      left.push(one.step);
      const [difference] = failure.differences;
      console.error(
        `command ${one.step.intent.command} is left out: recorded ${difference?.expected}, now ${difference?.got}`,
      );
    }
    mkdirSync(dirname(out), { recursive: true });
    writeFileSync(out, readFileSync(trial));
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  console.log(`${relative(process.cwd(), out)}: ${kept.length} of ${session.steps.length} commands, and it passes`);
  return kept.length === 0 && session.steps.length > 0 ? 1 : 0;
}

async function firstDifference(policy: Policy, path: string): Promise<StepResult | undefined> {
  for await (const { steps } of runFixture(policy, readFixture(path))) {
    return steps.find(({ differences }) => differences.length > 0);
  }
  return undefined;
}

async function neededCatalog({ steps }: RecordedSession, { catalog, connect }: RecordOptions): Promise<string[]> {
  if (connect !== undefined) return catalogOfSnapshot((await readLiveCatalog(optionsOfUrl(connect))).snapshot, steps);
  if (catalog !== undefined) return catalogOfSnapshot(catalogOf(catalog, process.cwd()).catalog.snapshot, steps);
  return catalogOfAnalyses(steps);
}

/** The labels that the session's columns had, and the deployment's data where it is given. */
function dataOf({ opened, steps }: RecordedSession, path: string | undefined): Record<string, unknown> {
  const given = path === undefined ? {} : parseDataFile(readFileSync(path, "utf8"), path).data;
  const labels: Record<string, readonly string[]> = {};
  for (const { analysis } of steps) {
    for (const column of analysis?.statements.flatMap(({ columns }) => columns) ?? []) {
      if (column.labels.length > 0) labels[`${column.schema}.${column.table}.${column.column}`] = column.labels;
    }
  }
  const { name } = opened.target;
  const targets = (given.targets ?? {}) as Record<string, Record<string, unknown>>;
  const own = Object.hasOwn(targets, name) ? targets[name] : {};
  const target = { ...own, labels: { ...(own?.labels as object), ...labels } };
  return { ...given, targets: { [name]: target } };
}

function fixtureText(
  { opened, steps: all }: RecordedSession,
  kept: readonly Attempted[],
  left: readonly RecordedStep[],
  catalog: readonly string[],
  data: Record<string, unknown>,
): string {
  const { identity, target } = opened;
  const { email, subject, issuer, groups, kind } = identity;
  const agent = kind === "agent";
  const session = {
    as: { email, subject, issuer, groups, kind },
    target: { name: target.name, database: target.database, labels: target.labels },
    catalog: catalog.length > 0 ? catalog : ["create schema none"],
    data,
    at: new Date(opened.at).toISOString(),
    opens: expectationOf(opened),
    ...(agent && { novel: false }),
    steps: kept.map(({ step, attempt }) => stepOf(step, attempts[attempt] ?? { smallIntegers: false }, agent)),
  };
  const document = new Document({ sessions: { [`recorded ${opened.session.slice(0, 8)}`]: session } });
  const steps = document.getIn(["sessions", `recorded ${opened.session.slice(0, 8)}`, "steps"]);
  if (isSeq(steps)) for (const item of steps.items) if (isMap(item)) item.flow = true;
  const missing = left.map(({ intent }) => intent.command).sort((a, b) => a - b);
  document.commentBefore = [
    ` Recorded ${new Date(opened.at).toISOString().slice(0, 10)}, ${all.length} commands; values are placeholders.`,
    ...(missing.length > 0 ? [` Left out, since they do not come again as recorded: ${missing.join(", ")}.`] : []),
  ].join("\n");
  const text = document.toString({ lineWidth: 0 });
  if (parseYaml(text) === null) throw new Error("the fixture is empty");
  return text;
}

function expectationOf({ verdict, rules }: Pick<RecordedStep["intent"], "verdict" | "rules">): string {
  return [verdict, ...new Set(rules.map(({ id }) => id))].join(" ");
}

function stepOf({ intent, approved }: RecordedStep, kept: Kept, agent: boolean): Partial<FixtureStep> {
  const masks = Object.fromEntries(intent.masks.map((mask) => [mask.column, mask.with]));
  return {
    run: withoutValues(intent.text, kept),
    ...(intent.via !== "query" && { params: intent.params.map((value) => value && placeholder(value)) }),
    ...(agent && intent.novel && { novel: true }),
    ...(approved && { approved }),
    expect: expectationOf(intent),
    ...(intent.masks.length > 0 && { masks }),
    ...(intent.approval && { approval: intent.approval }),
  };
}
