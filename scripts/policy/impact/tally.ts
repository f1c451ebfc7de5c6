/**
 * What became of the recorded commands, in bounded memory: counts by kind of change, rule, identity and column, and of
 * like commands (same change, target, kind of statement) the earliest as the example. Tallies of several threads merge.
 */
import type { Decision } from "../../../gateway/policy/decision.ts";
import { type ChangeKind, changeKinds, type MaskChange } from "./changes.ts";
import type { Change, Drift } from "./replay.ts";

const exampleTextMax = 2_000;
const examplesMax = 1_000;
const namesMax = 10_000;
const listedMax = 100;
/** Counts beyond `namesMax` names are kept under this one. */
export const otherNames = "(others)";

export interface Example {
  readonly key: string;
  commands: number;
  session: string;
  command: number;
  at: number;
  who: string;
  agent: boolean;
  target: string;
  text: string;
  base: Decision["verdict"];
  head: Decision["verdict"];
  readonly rules: readonly string[];
  readonly masks: readonly MaskChange[];
}

export interface KindTally {
  commands: number;
  /** Openings of sessions, which are no commands. */
  sessions: number;
  readonly rules: Record<string, number>;
  readonly identities: Record<string, number>;
  readonly columns: Record<string, number>;
  readonly examples: Record<string, Example>;
  /** Not among the examples, for want of room. */
  further: number;
}

export interface Tally {
  commands: number;
  changed: number;
  readonly kinds: Partial<Record<ChangeKind, KindTally>>;
  /** Commands that may be of that kind: labels that flow are not in a recording. */
  readonly possible: Partial<Record<ChangeKind, number>>;
  possibleCommands: number;
  sessions: number;
  openSessions: number;
  readonly unreadable: { readonly session: string; readonly problem: string }[];
  unreadableSessions: number;
  unjudged: number;
  reproduced: number;
  drifted: number;
  readonly drifts: Drift[];
  labelsAssumed: number;
  paramsCut: number;
}

export function emptyTally(): Tally {
  return {
    commands: 0,
    changed: 0,
    kinds: {},
    possible: {},
    possibleCommands: 0,
    sessions: 0,
    openSessions: 0,
    unreadable: [],
    unreadableSessions: 0,
    unjudged: 0,
    reproduced: 0,
    drifted: 0,
    drifts: [],
    labelsAssumed: 0,
    paramsCut: 0,
  };
}

// Names come from recordings: a record without a prototype takes any of them.
const record = <T>(): Record<string, T> => Object.create(null) as Record<string, T>;

function kindTally(tally: Tally, kind: ChangeKind): KindTally {
  tally.kinds[kind] ??= {
    commands: 0,
    sessions: 0,
    rules: record(),
    identities: record(),
    columns: record(),
    examples: record(),
    further: 0,
  };
  return tally.kinds[kind];
}

function count(into: Record<string, number>, name: string, more = 1): void {
  const known = into[name];
  if (known !== undefined) into[name] = known + more;
  else if (Object.keys(into).length < namesMax) into[name] = more;
  else into[otherNames] = (into[otherNames] ?? 0) + more;
}

export function addChange(tally: Tally, change: Change): void {
  if (change.kinds.length > 0 && change.command > 0) tally.changed += 1;
  if (change.possible.length > 0) tally.possibleCommands += 1;
  for (const kind of change.possible) tally.possible[kind] = (tally.possible[kind] ?? 0) + 1;
  const who = change.agent ? `${change.who} (agent)` : change.who;
  for (const { kind, rules, masks } of change.kinds) {
    const of = kindTally(tally, kind);
    if (change.command === 0) of.sessions += 1;
    else of.commands += 1;
    for (const rule of rules) count(of.rules, rule);
    count(of.identities, who);
    for (const mask of masks) count(of.columns, `${mask.column}: ${mask.base} → ${mask.head}`);
    const [base, head] = [change.base.verdict, change.head.verdict];
    const parts = [change.target, base, head, rules, masks, change.fingerprint];
    addExample(of, {
      key: Bun.hash(JSON.stringify(parts)).toString(36),
      commands: 1,
      session: change.session,
      command: change.command,
      at: change.at,
      who: change.who,
      agent: change.agent,
      target: change.target,
      text: change.text.slice(0, exampleTextMax),
      base,
      head,
      rules,
      masks,
    });
  }
}

const isEarlier = (a: Example, b: Example) =>
  a.at !== b.at ? a.at < b.at : a.session !== b.session ? a.session < b.session : a.command < b.command;

function addExample(of: KindTally, example: Example): void {
  const known = of.examples[example.key];
  if (known === undefined) {
    if (Object.keys(of.examples).length < examplesMax) of.examples[example.key] = example;
    else of.further += example.commands;
    return;
  }
  const commands = known.commands + example.commands;
  of.examples[example.key] = { ...(isEarlier(example, known) ? example : known), commands };
}

export function addDrift(tally: Tally, drift: Drift): void {
  tally.drifted += 1;
  if (tally.drifts.length < listedMax) tally.drifts.push(drift);
}

export function addUnreadable(tally: Tally, session: string, problem: string): void {
  tally.unreadableSessions += 1;
  if (tally.unreadable.length < listedMax) tally.unreadable.push({ session, problem });
}

export function mergeTally(into: Tally, from: Tally): void {
  const numbers = [
    ...(["commands", "changed", "possibleCommands", "sessions", "openSessions", "unreadableSessions"] as const),
    ...(["unjudged", "reproduced", "drifted", "labelsAssumed", "paramsCut"] as const),
  ];
  for (const name of numbers) into[name] += from[name];
  into.unreadable.push(...from.unreadable.slice(0, listedMax - into.unreadable.length));
  into.drifts.push(...from.drifts.slice(0, listedMax - into.drifts.length));
  for (const kind of Object.keys(changeKinds) as ChangeKind[]) {
    const possible = from.possible[kind];
    if (possible !== undefined) into.possible[kind] = (into.possible[kind] ?? 0) + possible;
    const theirs = from.kinds[kind];
    if (theirs === undefined) continue;
    const ours = kindTally(into, kind);
    ours.commands += theirs.commands;
    ours.sessions += theirs.sessions;
    ours.further += theirs.further;
    for (const [name, more] of Object.entries(theirs.rules)) count(ours.rules, name, more);
    for (const [name, more] of Object.entries(theirs.identities)) count(ours.identities, name, more);
    for (const [name, more] of Object.entries(theirs.columns)) count(ours.columns, name, more);
    for (const example of Object.values(theirs.examples)) addExample(ours, example);
  }
}

/** Most first, then by name. */
export function ranked(counts: Readonly<Record<string, number>>): [name: string, count: number][] {
  return Object.entries(counts).sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
}

/** Those that stand for most commands first. */
export function rankedExamples(of: KindTally): Example[] {
  return Object.values(of.examples).sort((a, b) => b.commands - a.commands || (isEarlier(a, b) ? -1 : 1));
}
