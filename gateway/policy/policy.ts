/**
 * One loaded policy: judges sessions and commands. A command's decision is cached by exactly the values that the
 * policy can see; the cache belongs to the policy object, so that another revision never reads it.
 */
import { createHash } from "node:crypto";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import { type Bundle, parseBundle } from "./bundle.ts";
import { labelsOfTarget, type PolicyData } from "./data.ts";
import type { Decision, Revision } from "./decision.ts";
import { DecisionCache } from "./decision-cache.ts";
import { Engine, type EvaluationWatch, unwatched } from "./engine.ts";
import type { CommandAnalysis, CommandPart, NowInput, SessionInput } from "./input.ts";
import type { PolicyMaterial } from "./material.ts";
import { describeValues, type VisiblePaths } from "./visible-paths.ts";

export type SessionBase = Omit<SessionInput, "now">;
/** The part of a command that is its own, not its analysis's. */
export type CommandRest = Pick<CommandPart, "digest" | "novel" | "params">;

export interface Judgement {
  readonly decision: Decision;
  readonly cached: boolean;
}

function digestText(text: string): string {
  return createHash("sha256").update(text).digest("base64");
}

async function compile(wasm: Uint8Array): Promise<WebAssembly.Module> {
  try {
    return await WebAssembly.compile(new Uint8Array(wasm));
  } catch (cause) {
    throw new GatewayError("policy.bundle_invalid", "policy bundle: its module is not WebAssembly", { cause });
  }
}

export class Policy {
  readonly bundle: Bundle;
  /** What it was built of, where it was built of bytes. */
  readonly material: PolicyMaterial | undefined;
  readonly #engine: Engine;
  readonly #cache = new DecisionCache(limits.decisionCacheEntriesMax);
  readonly #analysisKeys = new WeakMap<CommandAnalysis, string>();
  readonly #labels = new Map<string, ReadonlyMap<string, string[]>>();

  /** Throws `policy.bundle_invalid`. */
  constructor(
    bundle: Bundle,
    watch: EvaluationWatch = unwatched,
    made: { readonly module?: WebAssembly.Module; readonly material?: PolicyMaterial } = {},
  ) {
    this.bundle = bundle;
    this.material = made.material;
    this.#engine = new Engine(bundle, watch, made.module);
  }

  /**
   * Equal material gives an equal policy, in any thread. Whether it is signed and answers well was found out when the
   * material was accepted (`trial.ts`). Throws `policy.bundle_invalid`.
   *
   * @param parsed of the material, where that was done aside.
   */
  static async from(
    material: PolicyMaterial,
    watch: EvaluationWatch = unwatched,
    parsed: Bundle = parseBundle(material),
  ): Promise<Policy> {
    return new Policy(parsed, watch, { module: await compile(parsed.wasm), material });
  }

  get revision(): Revision {
    return this.bundle.revision;
  }

  get data(): PolicyData {
    return this.bundle.data;
  }

  /** Of the WebAssembly instance; it grows to what the largest input needed and stays there. */
  get memoryBytes(): number {
    return this.#engine.memoryBytes;
  }

  get cachedDecisions(): number {
    return this.#cache.size;
  }

  /** Labels by "schema.table.column". */
  labelsOf(targetName: string): ReadonlyMap<string, string[]> {
    const known = this.#labels.get(targetName);
    if (known !== undefined) return known;
    const labels = labelsOfTarget(this.data, targetName);
    if (labels.size > 0) this.#labels.set(targetName, labels);
    return labels;
  }

  judgeSession(input: SessionInput): Decision {
    return this.#engine.evaluateSession(input);
  }

  /** @param base is copied: what the caller does to it afterwards changes nothing. */
  forSession(base: SessionBase): SessionJudge {
    return new SessionJudge(this.#engine, this.bundle.commandPaths, this.#cache, this.#analysisKeys, base);
  }
}

/** Judges the commands of one session. */
export class SessionJudge {
  readonly #engine: Engine;
  readonly #paths: VisiblePaths | undefined;
  readonly #cache: DecisionCache;
  readonly #analysisKeys: WeakMap<CommandAnalysis, string>;
  readonly #base: SessionBase;
  readonly #sessionKey: string;

  constructor(
    engine: Engine,
    paths: VisiblePaths | undefined,
    cache: DecisionCache,
    analysisKeys: WeakMap<CommandAnalysis, string>,
    base: SessionBase,
  ) {
    this.#engine = engine;
    this.#paths = paths;
    this.#cache = cache;
    this.#analysisKeys = analysisKeys;
    this.#base = structuredClone({ identity: base.identity, target: base.target, session: base.session });
    this.#sessionKey = paths === undefined ? "" : digestText(describeValues(this.#base, paths.session));
  }

  /** Throws a `policy.*` error where there is no valid decision; the caller denies. */
  judge(analysis: CommandAnalysis, rest: CommandRest, now: NowInput): Judgement {
    const key = this.#paths === undefined ? undefined : this.#key(this.#paths, analysis, rest);
    if (key !== undefined) {
      const decision = this.#cache.get(key);
      if (decision !== undefined) return { decision, cached: true };
    }
    const { digest, novel, params } = rest;
    const command = { ...analysis, digest, novel, params };
    const decision = this.#engine.evaluateCommand({ ...this.#base, command, now });
    if (key !== undefined) this.#cache.set(key, decision);
    return { decision, cached: false };
  }

  #key(paths: VisiblePaths, analysis: CommandAnalysis, rest: CommandRest): string {
    let key = this.#sessionKey + this.#analysisKey(paths, analysis);
    if (paths.novel) key += rest.novel ? "1" : "0";
    if (paths.digest) key += digestText(rest.digest);
    if (paths.params) key += digestText(JSON.stringify(rest.params));
    return key;
  }

  /** An analysis is frozen and shared by all who run the same text; one that is not frozen could change under its key. */
  #analysisKey(paths: VisiblePaths, analysis: CommandAnalysis): string {
    const known = this.#analysisKeys.get(analysis);
    if (known !== undefined) return known;
    const key = digestText(describeValues(analysis, paths.analysis));
    if (Object.isFrozen(analysis)) this.#analysisKeys.set(analysis, key);
    return key;
  }
}
