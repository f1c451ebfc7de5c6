/**
 * The part of a command's input that its policy can see, as the JSON text that the policy is given. What it cannot see
 * costs time to parse at every evaluation and says nothing; and where two texts are equal, so are the decisions, which
 * is what the decision cache is keyed by.
 */
import type { CommandAnalysis, CommandInput, CommandPart, NowInput, SessionInput } from "./input.ts";
import type { VisiblePaths } from "./visible-paths.ts";

export type SessionBase = Omit<SessionInput, "now">;
/** The part of a command that is its own, not its analysis's. */
export type CommandRest = Pick<CommandPart, "digest" | "novel" | "params">;

/** Paths that begin alike, joined; an empty node is a value that is seen whole. */
type PathTree = Map<string, PathTree>;

function treeOf(paths: readonly (readonly string[])[]): PathTree {
  const root: PathTree = new Map();
  const whole = new Set<PathTree>();
  if (paths.some((path) => path.length === 0)) return root;
  for (const path of paths) {
    let node = root;
    for (const segment of path) {
      if (whole.has(node)) break;
      const next: PathTree = node.get(segment) ?? new Map();
      node.set(segment, next);
      node = next;
    }
    node.clear();
    whole.add(node);
  }
  return root;
}

/** Of lists and scalars everything: a path into them is not known to be the only one. */
function select(value: unknown, tree: PathTree): unknown {
  if (tree.size === 0 || typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const seen: [string, unknown][] = [];
  for (const [key, below] of tree)
    if (Object.hasOwn(value, key)) seen.push([key, select(Reflect.get(value, key), below)]);
  return Object.fromEntries(seen);
}

/** The members of an object's text, without its braces. */
function membersOf(value: unknown): string {
  return JSON.stringify(value).slice(1, -1);
}

function joined(members: string, more: string): string {
  return members === "" || more === "" ? members + more : `${members},${more}`;
}

export class VisibleInput {
  readonly #paths: VisiblePaths;
  readonly #session: PathTree;
  readonly #analysis: PathTree;
  #now: { readonly of: NowInput; readonly members: string } | undefined;

  constructor(paths: VisiblePaths) {
    this.#paths = paths;
    this.#session = treeOf(paths.session);
    this.#analysis = treeOf(paths.analysis);
  }

  /** What is fixed while a session lives. */
  sessionMembers(base: SessionBase): string {
    return this.#paths.session.length === 0 ? "" : membersOf(select(base, this.#session));
  }

  analysisMembers(analysis: CommandAnalysis): string {
    return this.#paths.analysis.length === 0 ? "" : membersOf(select(analysis, this.#analysis));
  }

  /** Reads of `rest` what the policy can see, and no more. */
  restMembers(rest: CommandRest): string {
    const { novel, digest, params } = this.#paths;
    let members = novel ? `"novel":${rest.novel}` : "";
    if (digest) members = joined(members, `"digest":${JSON.stringify(rest.digest)}`);
    if (params) members = joined(members, `"params":${JSON.stringify(rest.params)}`);
    return members;
  }

  nowMembers(now: NowInput): string {
    // One frozen document serves all decisions of a second.
    if (this.#now?.of === now) return this.#now.members;
    const members = this.#paths.now.map((field) => `"${field}":${JSON.stringify(now[field])}`).join(",");
    if (Object.isFrozen(now)) this.#now = { of: now, members };
    return members;
  }
}

/** @param members of each part, as `VisibleInput` gives them. */
export function visibleText(session: string, analysis: string, rest: string, now: string): string {
  const command = joined(session, `"command":{${joined(analysis, rest)}}`);
  return now === "" ? `{${command}}` : `{${command},"now":{${now}}}`;
}

/** Where it is not known what a policy can see. */
export function wholeText(base: SessionBase, analysis: CommandAnalysis, rest: CommandRest, now: NowInput): string {
  const { digest, novel, params } = rest;
  return JSON.stringify({ ...base, command: { ...analysis, digest, novel, params }, now } satisfies CommandInput);
}
