/**
 * One loaded policy: judges sessions and commands. A command's decision is cached by exactly the values that the
 * policy can see; the cache belongs to the policy object, so that another revision never reads it.
 */
import { hash } from "node:crypto";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import { type Bundle, parseBundle } from "./bundle.ts";
import { labelsByTarget, type PolicyData } from "./data.ts";
import type { Decision, Revision } from "./decision.ts";
import { DecisionCache } from "./decision-cache.ts";
import { compileModule, Engine, type EvaluationWatch, unwatched } from "./engine.ts";
import type { CommandAnalysis, NowInput, SessionInput } from "./input.ts";
import type { PolicyMaterial } from "./material.ts";
import { type CommandRest, type SessionBase, VisibleInput, visibleText, wholeText } from "./visible-input.ts";

export interface Judgement {
  readonly decision: Decision;
  readonly cached: boolean;
}

const noLabels: ReadonlyMap<string, string[]> = new Map();

/** Longer texts take part in a key by their digest (44 characters). */
const digestedCharsMin = 44;

function digestText(text: string): string {
  return hash("sha256", text, "base64");
}

export class Policy {
  readonly bundle: Bundle;
  readonly revision: Revision;
  readonly #engine: Engine;
  readonly #visible: VisibleInput | undefined;
  readonly #cache = new DecisionCache(limits.decisionCacheEntriesMax);
  readonly #analysisKeys = new WeakMap<CommandAnalysis, string>();
  #labels: ReturnType<typeof labelsByTarget> | undefined;

  /** Throws `policy.bundle_invalid`. */
  constructor(bundle: Bundle, watch: EvaluationWatch = unwatched) {
    this.bundle = bundle;
    const { timezone } = bundle.data;
    const timeZone = typeof timezone === "string" && timezone !== "UTC" ? timezone : undefined;
    this.revision = Object.freeze({ ...bundle.revision, ...(timeZone !== undefined && { timeZone }) });
    this.#engine = new Engine(bundle, watch);
    this.#visible = bundle.commandPaths && new VisibleInput(bundle.commandPaths);
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
    await compileModule(parsed.wasm);
    return new Policy(parsed, watch);
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
    // Asked at each command.
    this.#labels ??= labelsByTarget(this.data);
    return this.#labels.get(targetName) ?? noLabels;
  }

  judgeSession(input: SessionInput): Decision {
    return this.#engine.evaluateSession(input);
  }

  /** @param base is copied: what the caller does to it afterwards changes nothing. */
  forSession(base: SessionBase): SessionJudge {
    return new SessionJudge(this.#engine, this.#visible, this.#cache, this.#analysisKeys, base);
  }
}

/** All that a cached decision of one session depends on. */
interface Asked {
  readonly analysis: CommandAnalysis;
  readonly rest: string;
  readonly now: string;
  readonly judgement: Judgement;
}

/** Judges the commands of one session. */
export class SessionJudge {
  readonly #engine: Engine;
  readonly #visible: VisibleInput | undefined;
  readonly #cache: DecisionCache;
  readonly #analysisKeys: WeakMap<CommandAnalysis, string>;
  readonly #base: SessionBase;
  readonly #sessionMembers: string;
  readonly #sessionKey: string;
  /** Parse and Bind ask the same, and so does each run of a prepared statement: to make the key costs more than all else. */
  #latest: Asked | undefined;

  constructor(
    engine: Engine,
    visible: VisibleInput | undefined,
    cache: DecisionCache,
    analysisKeys: WeakMap<CommandAnalysis, string>,
    base: SessionBase,
  ) {
    this.#engine = engine;
    this.#visible = visible;
    this.#cache = cache;
    this.#analysisKeys = analysisKeys;
    this.#base = structuredClone({ identity: base.identity, target: base.target, session: base.session });
    this.#sessionMembers = visible?.sessionMembers(this.#base) ?? "";
    this.#sessionKey = digestText(this.#sessionMembers);
  }

  /** Throws a `policy.*` error where there is no valid decision; the caller denies. */
  judge(analysis: CommandAnalysis, rest: CommandRest, now: NowInput): Judgement {
    const visible = this.#visible;
    if (visible === undefined) {
      checkNames(analysis);
      const decision = this.#engine.evaluateCommand(wholeText(this.#base, analysis, rest, now), rest.digest);
      return { decision, cached: false };
    }
    const restMembers = visible.restMembers(rest);
    const nowMembers = visible.nowMembers(now);
    const latest = this.#latest;
    if (latest?.analysis === analysis && latest.rest === restMembers && latest.now === nowMembers)
      return latest.judgement;
    let analysisMembers: string | undefined;
    let analysisKey = this.#analysisKeys.get(analysis);
    if (analysisKey === undefined) {
      analysisMembers = visible.analysisMembers(analysis);
      analysisKey = digestText(analysisMembers);
      // A frozen one is shared by all who run the same text; one that is not frozen could change under its key.
      if (Object.isFrozen(analysis)) this.#analysisKeys.set(analysis, analysisKey);
    }
    const restKey = restMembers.length > digestedCharsMin ? digestText(restMembers) : restMembers;
    const key = `${this.#sessionKey}${analysisKey}${restKey}\n${nowMembers}`;
    const known = this.#cache.get(key);
    if (known !== undefined) {
      const judgement = { decision: known, cached: true };
      if (Object.isFrozen(analysis)) this.#latest = { analysis, rest: restMembers, now: nowMembers, judgement };
      return judgement;
    }
    checkNames(analysis);
    analysisMembers ??= visible.analysisMembers(analysis);
    const text = visibleText(this.#sessionMembers, analysisMembers, restMembers, nowMembers);
    const decision = this.#engine.evaluateCommand(text, rest.digest);
    this.#cache.set(key, decision);
    return { decision, cached: false };
  }
}

/**
 * An evaluation's time grows faster than the rules that it gives. A part of another form than the input's is for the
 * policy to refuse. @throws GatewayError policy.input_too_large
 */
function checkNames({ statements, incomplete }: CommandAnalysis): void {
  const names = new Set<unknown>(list(incomplete));
  for (const statement of list(statements) as CommandAnalysis["statements"]) {
    for (const name of list(statement?.functions)) names.add(name);
    for (const name of list(statement?.features)) names.add(name);
    for (const relation of list(statement?.relations)) names.add(JSON.stringify(relation));
  }
  if (names.size <= limits.policyInputNamesMax) return;
  throw new GatewayError("policy.input_too_large", "The command names too much for the policy to judge.", {
    hint: `A command may name ${limits.policyInputNamesMax} functions, relations and features.`,
  });
}

const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
