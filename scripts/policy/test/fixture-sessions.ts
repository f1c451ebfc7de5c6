/** Runs fixture sessions: each command as in the gateway, and where what policy says of it is not what was expected. */
import { dirname } from "node:path";
import { GatewayError } from "../../../gateway/errors.ts";
import { checkData, isMap, mergeData, type PolicyData } from "../../../gateway/policy/data.ts";
import type { Obligations } from "../../../gateway/policy/decision.ts";
import { Policy } from "../../../gateway/policy/policy.ts";
import type { Intent, SessionOpened } from "../../../gateway/recording/events.ts";
import { type DryJudgement, type DryRun, openDryRun } from "../dry-run.ts";
import { catalogOf, identityOf } from "../subject.ts";
import type { Fixture, FixtureSession, FixtureStep } from "./fixture-file.ts";

type Judged = Pick<Intent | SessionOpened, "verdict" | "rules"> & Partial<Pick<Intent, "obligations">>;

export interface Difference {
  readonly what: string;
  readonly expected: string;
  readonly got: string;
}

export interface StepResult {
  /** 0 is the opening of the session. */
  readonly number: number;
  readonly line: number;
  readonly run: string;
  /** Ids of rules that were expected. */
  readonly wanted: readonly string[];
  readonly judged: Judged | undefined;
  /** Empty where all is as expected. */
  readonly differences: readonly Difference[];
}

export interface SessionResult {
  readonly path: string;
  readonly name: string;
  readonly line: number;
  readonly steps: readonly StepResult[];
  readonly ms: number;
}

function ids({ rules }: Judged): string[] {
  return [...new Set(rules.map(({ id }) => id))].sort();
}

function compareVerdict(expected: string, judged: Judged): Difference[] {
  const [verdict, ...wanted] = expected.split(" ");
  const got = ids(judged);
  const rulesDiffer = wanted.length > 0 && wanted.sort().join() !== got.join();
  if (verdict === judged.verdict && !rulesDiffer) return [];
  return [{ what: "verdict", expected, got: [judged.verdict, ...got].join(" ") }];
}

function compare(what: string, expected: unknown, got: unknown): Difference[] {
  if (expected === undefined || Bun.deepEquals(expected, got)) return [];
  return [{ what, expected: JSON.stringify(expected), got: JSON.stringify(got) ?? "none" }];
}

function compareStep(step: FixtureStep, { intent }: DryJudgement): Difference[] {
  const masks = Object.fromEntries(intent.masks.map((mask) => [mask.column, mask.with]));
  const { says } = step;
  const said = says === undefined || intent.rules.some(({ message }) => message.includes(says));
  return [
    ...compareVerdict(step.expect, intent),
    ...compare("masks", step.masks, masks),
    ...compare("errors", step.errors, intent.diagnostics),
    ...compare("approval", step.approval, intent.approval),
    ...compare("obligations", step.obligations, shortObligations(intent.obligations)),
    ...(said ? [] : compare("message", says, intent.rules.map(({ message }) => message).join("; "))),
  ];
}

/** Without the rules that asked for them. */
function shortObligations({ limit, timeout, read_only, rates }: Obligations = {}): FixtureStep["obligations"] {
  return {
    ...(limit && { limit: limit.rows }),
    ...(timeout && { timeout: timeout.ms }),
    ...(read_only && { read_only: true }),
    ...(rates && { rates: rates.map(({ commands, per_ms }) => `${commands} in ${per_ms}`).sort() }),
  };
}

async function open(policy: Policy, folder: string, one: FixtureSession): Promise<DryRun> {
  const { target } = one;
  const [first = "demo", ...more] = Array.isArray(one.catalog) ? one.catalog : [one.catalog];
  const catalog = catalogOf(first, folder);
  for (const ddl of more) catalog.apply(ddl);
  return openDryRun({
    policy,
    identity: identityOf(one.as),
    target: {
      kind: "postgres",
      ...(typeof target === "string" ? { name: target, database: target, labels: {} } : target),
    },
    catalog,
    ...(one.context && { context: compact(one.context) }),
    nowMs: Date.parse(one.at),
  });
}

function compact<T extends object>(given: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as never;
}

/** The policy with a fixture's data, and whether the gateway would load it. */
function withData(policy: Policy, over: Record<string, unknown> | undefined): { loads: boolean; policy: Policy } {
  if (over === undefined) return { loads: true, policy };
  const merged = withoutNulls(mergeData(policy.bundle.data, over));
  const bundle = { ...policy.bundle, data: merged };
  try {
    checkData(merged, "data of a fixture");
    return { loads: true, policy: new Policy(bundle) };
  } catch (refused) {
    if (!(refused instanceof GatewayError)) throw refused;
    return { loads: false, policy: new Policy({ ...bundle, unprepared: true }) };
  }
}

/** In a fixture's data, null takes a key away. */
function withoutNulls(data: PolicyData): PolicyData {
  const kept = Object.entries(data).filter(([, item]) => item !== null);
  return Object.fromEntries(kept.map(([key, item]) => [key, isMap(item) ? withoutNulls(item) : item]));
}

async function* steps(policy: Policy, { path, line }: Fixture, one: FixtureSession & { name: string }) {
  const { loads, policy: given } = withData(policy, one.data);
  const run = await open(given, dirname(path), one);
  const opening = [...compareVerdict(one.opens, run.opened), ...compare("loads", one.loads, loads)];
  yield {
    number: 0,
    line: line(one.name),
    run: `opens ${run.opened.target.name}`,
    wanted: one.opens.split(" ").slice(1),
    judged: run.opened,
    differences: opening,
  };
  if (run.refused !== undefined) return;
  for (const [index, step] of one.steps.entries()) {
    const novel = step.novel ?? one.novel;
    let judged: DryJudgement | Error;
    try {
      judged = await run.run({
        text: step.run,
        ...(step.params && { params: step.params }),
        ...(novel !== undefined && { novel }),
        ...(step.approved && { decided: "approve" }),
        ...(step.input && { seen: step.input }),
      });
    } catch (fault) {
      judged = fault as Error;
    }
    const ended = judged instanceof Error;
    yield {
      number: index + 1,
      line: line(one.name, index),
      run: step.run,
      wanted: step.expect.split(" ").slice(1),
      judged: judged instanceof Error ? undefined : judged.intent,
      differences:
        judged instanceof Error
          ? [{ what: "verdict", expected: step.expect, got: `a fault that ends the session: ${judged.message}` }]
          : compareStep(step, judged),
    };
    if (ended) return;
  }
}

/** One result a session, as each ends. */
export async function* runFixture(policy: Policy, fixture: Fixture): AsyncGenerator<SessionResult> {
  for (const one of fixture.sessions) {
    const started = performance.now();
    const results: StepResult[] = [];
    for await (const result of steps(policy, fixture, one)) results.push(result);
    const { path, line } = fixture;
    yield { path, name: one.name, line: line(one.name), steps: results, ms: performance.now() - started };
  }
}

export interface NamedSession {
  readonly fixture: Fixture;
  readonly session: Fixture["sessions"][number];
}

/** The first step of a session that gives something else. */
export async function firstFailure(
  policy: Policy,
  { fixture, session }: NamedSession,
): Promise<StepResult | undefined> {
  for await (const step of steps(policy, fixture, session)) {
    if (step.differences.length > 0) return step;
  }
  return undefined;
}
