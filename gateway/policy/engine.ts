/**
 * Evaluates a compiled policy. An evaluation answers a valid decision or throws a `GatewayError`; an undefined
 * result is a deny. After any fault the WebAssembly instance is made anew, since an abort leaves its stack unwound.
 */
// Its types declare named exports, its module only some of them and a default with all.
import * as opaModule from "@open-policy-agent/opa-wasm";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import { type Bundle, entrypoints, preparedEntrypoint } from "./bundle.ts";
import { type PolicyData, preparedData } from "./data.ts";
import { type Decision, decisionSchema, type Mask, maskKinds } from "./decision.ts";
import type { SessionInput } from "./input.ts";

/** Told of each evaluation, so that one that never ends can be noticed from outside. */
export interface EvaluationWatch {
  /** @param digest sha256:<hex> of the command, or "" for a session. */
  begin(digest: string): void;
  end(): void;
}

export const unwatched: EvaluationWatch = { begin: () => undefined, end: () => undefined };

const undefinedDecision: Decision = {
  verdict: "deny",
  rules: [{ id: "sallyport.undefined", message: "The policy gives no decision for this." }],
  masks: [],
  diagnostics: "canonical",
};

/** `value` with every lone surrogate replaced, in keys too: OPA's JSON parser refuses them. */
function toWellFormed(value: unknown): unknown {
  if (typeof value === "string") return value.toWellFormed();
  if (Array.isArray(value)) return value.map(toWellFormed);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key.toWellFormed(), toWellFormed(item)]));
}

/** JSON.stringify escapes surrogates only where they are alone; an escaped backslash before "ud800" costs a copy. */
const maybeLoneSurrogate = /\\ud[89a-f][0-9a-f]{2}/i;

function encodeInput(text: string): ArrayBuffer {
  const wellFormed = maybeLoneSurrogate.test(text) ? JSON.stringify(toWellFormed(JSON.parse(text))) : text;
  const bytes = new TextEncoder().encode(wellFormed);
  if (bytes.byteLength > limits.policyInputBytesMax) {
    throw new GatewayError("policy.input_too_large", "The command is too large for the policy to judge.", {
      hint: `The policy's input is bounded at ${limits.policyInputBytesMax} bytes.`,
    });
  }
  return bytes.buffer.byteLength === bytes.byteLength ? bytes.buffer : bytes.slice().buffer;
}

function strongestMasks(masks: readonly Mask[]): Mask[] {
  const byColumn = new Map<string, Mask>();
  for (const mask of masks) {
    const before = byColumn.get(mask.column);
    const order = before === undefined ? -1 : maskKinds.indexOf(mask.with) - maskKinds.indexOf(before.with);
    // Equal masks of several rules: the first by name, whatever order the policy's set came in.
    if (order < 0 || (order === 0 && (mask.rule ?? "") < (before?.rule ?? ""))) byColumn.set(mask.column, mask);
  }
  return [...byColumn.values()].sort((a, b) => (a.column < b.column ? -1 : 1));
}

function freezeDeep<T>(value: T): T {
  if (typeof value !== "object" || value === null) return value;
  for (const item of Object.values(value)) freezeDeep(item);
  return Object.freeze(value);
}

function invalidDecision(message: string, cause?: unknown): GatewayError {
  return new GatewayError("policy.decision_invalid", `The policy's decision is not valid: ${message}.`, { cause });
}

/** @param value the entrypoint's result; undefined where the policy has none. */
export function readDecision(value: unknown): Decision {
  if (value === undefined) return freezeDeep(structuredClone(undefinedDecision));
  const parsed = decisionSchema.safeParse(value);
  if (!parsed.success) throw invalidDecision("it does not fit the schema", parsed.error);
  const decision = parsed.data;
  if (decision.verdict === "mask" && decision.masks.length === 0) throw invalidDecision("mask without masks");
  if (decision.verdict === "approve" && decision.approval === undefined)
    throw invalidDecision("approve without approval");
  if (decision.verdict === "allow" && decision.masks.length > 0) throw invalidDecision("allow with masks");
  const key = (rule: { id: string; message: string }) => `${rule.id}\n${rule.message}`;
  const rules = decision.rules.toSorted((a, b) => (key(a) < key(b) ? -1 : 1));
  const { obligations, ...rest } = decision;
  const obliges = decision.verdict !== "deny" && obligations !== undefined && Object.keys(obligations).length > 0;
  return freezeDeep({ ...rest, rules, masks: strongestMasks(decision.masks), ...(obliges && { obligations }) });
}

/** opa-wasm throws strings, and objects with a message; neither is shown to a client. */
function evaluationFailure(thrown: unknown): GatewayError {
  if (thrown instanceof GatewayError) return thrown;
  const cause =
    thrown instanceof Error ? thrown : new Error(typeof thrown === "string" ? thrown : JSON.stringify(thrown));
  return new GatewayError("policy.evaluation_failed", "The policy could not be evaluated.", { cause });
}

const opa: typeof opaModule = "default" in opaModule ? (opaModule.default as typeof opaModule) : opaModule;

type Loaded = ReturnType<typeof opaModule.loadPolicySync>;
type EntrypointIds = Readonly<Record<keyof typeof entrypoints, number>>;

function entrypointIds(loaded: Loaded): EntrypointIds {
  const known: Readonly<Record<string, unknown>> = loaded.entrypoints;
  const id = (name: string): number => {
    const found = Object.hasOwn(known, name) ? known[name] : undefined;
    if (typeof found !== "number")
      throw new GatewayError("policy.bundle_invalid", `policy bundle: no entrypoint ${name}`);
    return found;
  };
  return { session: id(entrypoints.session), command: id(entrypoints.command) };
}

/** Policies that differ in their data only share what was compiled. */
const modules = new WeakMap<Uint8Array, WebAssembly.Module>();

/**
 * Compiles a bundle's module aside, so that an engine made of it later does not hold up the thread.
 * Throws `policy.bundle_invalid`.
 */
export async function compileModule(wasm: Uint8Array): Promise<WebAssembly.Module> {
  try {
    const module = modules.get(wasm) ?? (await WebAssembly.compile(new Uint8Array(wasm)));
    modules.set(wasm, module);
    return module;
  } catch (cause) {
    throw new GatewayError("policy.bundle_invalid", "policy bundle: its module is not WebAssembly", { cause });
  }
}

/** @param module what another thread compiled of the same bytes; threads that share one share its machine code. */
export function shareModule(wasm: Uint8Array, module: WebAssembly.Module): void {
  modules.set(wasm, module);
}

function compiled(wasm: Uint8Array): WebAssembly.Module {
  const known = modules.get(wasm);
  if (known !== undefined) return known;
  const module = new WebAssembly.Module(new Uint8Array(wasm));
  modules.set(wasm, module);
  return module;
}

/**
 * What a policy makes of its data alone, once (`policies/prepared`): it reads it back as `data.sallyport_prepared`, a
 * name that no other data may have. Throws where its own data gives it nothing.
 */
function withPrepared(loaded: Loaded, { data, unprepared }: Bundle): PolicyData {
  loaded.setData(data);
  if (unprepared || !Object.hasOwn(loaded.entrypoints, preparedEntrypoint)) return data;
  const results: unknown = loaded.evaluate({}, preparedEntrypoint);
  const first: unknown = Array.isArray(results) ? results[0] : undefined;
  if (typeof first !== "object" || first === null || !("result" in first))
    throw new GatewayError("policy.bundle_invalid", "policy bundle: its data lacks a section that its rules read");
  return { ...data, [preparedData]: first.result };
}

export class Engine {
  readonly #module: WebAssembly.Module;
  readonly #bundle: Bundle;
  readonly #watch: EvaluationWatch;
  readonly #ids: EntrypointIds;
  #data: PolicyData | undefined;
  #loaded: Loaded | undefined;

  /** Throws `policy.bundle_invalid` where the module is not a policy with both entrypoints. */
  constructor(bundle: Bundle, watch: EvaluationWatch = unwatched) {
    this.#bundle = bundle;
    this.#watch = watch;
    try {
      this.#module = compiled(bundle.wasm);
      this.#loaded = this.#instantiate();
      this.#ids = entrypointIds(this.#loaded);
    } catch (thrown) {
      if (thrown instanceof GatewayError) throw thrown;
      throw new GatewayError("policy.bundle_invalid", "policy bundle: its module is not an OPA policy", {
        cause: evaluationFailure(thrown).cause,
      });
    }
  }

  #instantiate(): Loaded {
    const loaded = opa.loadPolicySync(this.#module, { initial: 16, maximum: limits.policyMemoryPagesMax });
    this.#data ??= this.#prepare(loaded);
    loaded.setData(this.#data);
    return loaded;
  }

  #prepare(loaded: Loaded): PolicyData {
    this.#watch.begin("");
    try {
      return withPrepared(loaded, this.#bundle);
    } finally {
      this.#watch.end();
    }
  }

  get memoryBytes(): number {
    return this.#loaded?.mem.buffer.byteLength ?? 0;
  }

  evaluateSession(input: SessionInput): Decision {
    return this.#evaluate(this.#ids.session, JSON.stringify(input), "");
  }

  /** @param input the JSON text of a `CommandInput`, or of the part of it that the policy can see. */
  evaluateCommand(input: string, digest: string): Decision {
    return this.#evaluate(this.#ids.command, input, digest);
  }

  #evaluate(entrypoint: number, input: string, digest: string): Decision {
    return readDecision(this.#run(entrypoint, encodeInput(input), digest));
  }

  #run(entrypoint: number, input: ArrayBuffer, digest: string): unknown {
    this.#watch.begin(digest);
    try {
      this.#loaded ??= this.#instantiate();
      const results: unknown = this.#loaded.evaluate(input, entrypoint);
      if (!Array.isArray(results) || results.length > 1) throw invalidDecision("not one result");
      const first: unknown = results[0];
      if (first === undefined) return undefined;
      if (typeof first !== "object" || first === null || !("result" in first)) throw invalidDecision("no result in it");
      return first.result;
    } catch (thrown) {
      this.#loaded = undefined;
      throw evaluationFailure(thrown);
    } finally {
      this.#watch.end();
    }
  }
}
