/**
 * The one pipeline that every protocol goes through: identify, open, decide, approve, record, close (invariant 7).
 * A command reaches a target only with a `Permit`, which only `Session.authorise` makes, after the verdict and after
 * the intent was handed to the recording; `Session.committed` says when that record may be acted upon (invariant 1).
 */
import { randomUUID } from "node:crypto";
import { GatewayError } from "../errors.ts";
import type { Authenticated } from "../identity/verifier.ts";
import { limits } from "../limits.ts";
import { sameLabels } from "../policy/data.ts";
import type { Decision, Rule } from "../policy/decision.ts";
import type { CommandAnalysis, SessionContext, SessionInput, TargetInput } from "../policy/input.ts";
import type { CommandRest } from "../policy/visible-input.ts";
import type { Outcome, RecordedEvent } from "../recording/events.ts";
import type { Approvals, HoldNotice } from "./approvals.ts";
import { policyNow } from "./clock.ts";
import { type CommandRequest, CommandTexts, digestOf } from "./command.ts";
import {
  cancelled,
  type Denial,
  denialMessage,
  deniedAfterApproval,
  deniedBy,
  deniedByFault,
  deniedByPolicy,
  evaluationFault,
  isChanged,
  notApproved,
  outdated,
  rateExceeded,
  renamed,
} from "./denial.ts";
import type { PolicyRevision, SessionDependencies, SessionJudge, SessionRecorder } from "./dependencies.ts";
import type { Novelty } from "./novelty.ts";
import type { Rates } from "./rates.ts";

/** Proof that a command was judged, approved where needed, and its intent recorded. */
export interface Permit {
  readonly command: number;
  readonly startedAtMs: number;
  readonly judgedAtMs: number;
  readonly decision: Decision;
  readonly policy: PolicyRevision;
  readonly analysis: CommandAnalysis;
}

/** Not exported, and told by a private name: nothing outside this file can make one. */
class IssuedPermit implements Permit {
  readonly #issued = true;
  readonly command: number;
  readonly startedAtMs: number;
  readonly judgedAtMs: number;
  readonly decision: Decision;
  readonly policy: PolicyRevision;
  readonly analysis: CommandAnalysis;

  constructor({ command, startedAtMs, judgedAtMs, decision, policy }: Judged, analysis: CommandAnalysis) {
    this.command = command;
    this.startedAtMs = startedAtMs;
    this.judgedAtMs = judgedAtMs;
    this.decision = decision;
    this.policy = policy;
    this.analysis = analysis;
  }

  static is(permit: object): boolean {
    return #issued in permit && permit.#issued;
  }
}

/** @throws GatewayError internal when `permit` was not made by the pipeline */
export function requirePermit(permit: Permit): void {
  if (!IssuedPermit.is(permit)) {
    throw new GatewayError("internal", "a command without a permit was about to be forwarded");
  }
}

export type Ruling =
  | { readonly kind: "permitted"; readonly permit: Permit }
  | { readonly kind: "denied"; readonly denial: Denial };

/** What all sessions of a gateway share. */
export interface SharedState {
  readonly approvals: Approvals;
  readonly novelty: Novelty;
  readonly rates: Rates;
}

/** How a protocol tells its caller of a hold, and how a caller's own cancel reaches it. */
export interface Hold {
  notify(notice: HoldNotice): void;
  readonly signal: AbortSignal;
  /**
   * Asked once the command was approved, right before it is forwarded: is what it was judged as still what it means?
   * "cancelled": its caller gave it up meanwhile.
   */
  stillMeans(): Promise<"same" | "other" | "cancelled">;
}

export interface OpenRequest {
  readonly authenticated: Authenticated;
  readonly target: TargetInput;
  readonly client: { readonly address: string; readonly application: string };
  readonly context: SessionContext;
}

/** Of a statement that is only prepared. Few policies look at the digest, which takes time. */
class Unbound implements CommandRest {
  readonly novel = false;
  readonly params: readonly string[] = [];
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  get digest(): string {
    return digestOf(this.#text, this.params);
  }
}

/** A command as it was judged. */
interface Judged {
  readonly command: number;
  readonly startedAtMs: number;
  readonly judgedAtMs: number;
  readonly digest: string;
  readonly novel: boolean;
  readonly decision: Decision;
  readonly policy: PolicyRevision;
}

export class Session {
  readonly id: string;
  readonly identity: Authenticated["identity"];
  readonly target: TargetInput;
  readonly expiresAtMs: number;
  readonly #dependencies: SessionDependencies;
  readonly #approvals: Approvals;
  readonly #novelty: Novelty;
  readonly #rates: Rates;
  readonly #recorder: SessionRecorder;
  readonly #identityKey: string;
  readonly #client: OpenRequest["client"];
  #context: SessionContext;
  #policy: PolicyRevision;
  #judge: SessionJudge;
  readonly #texts: CommandTexts;
  #commands = 0;
  #analyses = new WeakMap<CommandAnalysis, number>();
  #analysisCount = 0;
  /** Analyses whose pattern was seen before: that never becomes untrue. */
  readonly #familiar = new WeakSet<CommandAnalysis>();
  /** Its intent says that it goes on, which it does once its pattern is kept. */
  #permitting: Judged | undefined;
  #closed = false;

  /** @throws GatewayError session.denied when policy refuses this identity the target; the refusal is recorded. */
  static async open(dependencies: SessionDependencies, shared: SharedState, request: OpenRequest): Promise<Session> {
    const policy = dependencies.policies.current();
    const id = randomUUID();
    const at = Date.now();
    const base = baseInput(id, request.authenticated.identity, request.target, request.client, request.context);
    const decision = policy.judgeSession({ ...base, now: policyNow(at, policy.revision.timeZone) });
    const recorder = dependencies.recording.session({
      type: "session.opened",
      at,
      session: id,
      identity: base.identity,
      target: base.target,
      client: base.session.client,
      context: request.context,
      revision: policy.revision,
      verdict: decision.verdict,
      rules: decision.rules,
      gateway: dependencies.gateway,
    });
    try {
      await recorder.committed();
    } catch (fault) {
      await recorder.close({ type: "session.closed", at: Date.now(), reason: "fault" }).catch(() => undefined);
      throw fault;
    }
    if (decision.verdict !== "allow") {
      await recorder.close({ type: "session.closed", at: Date.now(), reason: "denied" });
      throw new GatewayError(
        "session.denied",
        denialMessage(decision.rules, `access to target "${request.target.name}"`),
        {
          hint: "Ask the owners of the policy for access to this target.",
        },
      );
    }
    return new Session(dependencies, shared, request, base, policy, recorder);
  }

  private constructor(
    dependencies: SessionDependencies,
    shared: SharedState,
    request: OpenRequest,
    base: Omit<SessionInput, "now">,
    policy: PolicyRevision,
    recorder: SessionRecorder,
  ) {
    this.#dependencies = dependencies;
    this.#approvals = shared.approvals;
    this.#novelty = shared.novelty;
    this.#rates = shared.rates;
    this.#recorder = recorder;
    this.id = base.session.id;
    this.identity = base.identity;
    this.target = base.target;
    this.expiresAtMs = request.authenticated.expiresAtMs + request.authenticated.graceMs;
    this.#identityKey = `${base.identity.issuer}\n${base.identity.subject}`;
    this.#client = request.client;
    this.#texts = new CommandTexts(dependencies.redact);
    this.#context = request.context;
    this.#policy = policy;
    this.#judge = policy.forSession(base);
  }

  /** The revision that judges now; a change of it is recorded, and judges everything from here on. */
  get policy(): PolicyRevision {
    this.#takeRevision();
    return this.#policy;
  }

  #takeRevision(): void {
    const current = this.#dependencies.policies.current();
    if (current === this.#policy) return;
    this.#policy = current;
    this.#judge = current.forSession(this.#base());
    this.record({ type: "session.revision", at: Date.now(), revision: current.revision });
  }

  #base(): Omit<SessionInput, "now"> {
    return baseInput(this.id, this.identity, this.target, this.#client, this.#context);
  }

  get context(): SessionContext {
    return this.#context;
  }

  /** The caller's own claims about its purpose changed. */
  setContext(context: SessionContext): void {
    this.#context = context;
    this.#judge = this.policy.forSession(this.#base());
    this.record({ type: "session.context", at: Date.now(), context });
  }

  /**
   * Judges without recording or holding: what a statement that is only prepared needs. Its execution is authorised
   * by `authorise` again.
   */
  preview(analysis: CommandAnalysis, text: string): Decision {
    // Whether the pattern is known and what the parameters are is not known yet: they are judged at execution.
    return this.#decide(analysis, new Unbound(text), Date.now());
  }

  /** Judges, holds where policy says so, and records the intent. At once where nothing has to be waited for. */
  authorise(request: CommandRequest, hold: Hold): Ruling | Promise<Ruling> {
    const { analysis } = request;
    if (this.#familiar.has(analysis)) return this.#authorise(request, hold, false);
    const novel = this.#novelty.isNovel(this.#identityKey, this.target.name, analysis.fingerprint);
    const judge = (isNovel: boolean) => {
      if (!isNovel) this.#familiar.add(analysis);
      return this.#authorise(request, hold, isNovel);
    };
    return typeof novel === "boolean" ? judge(novel) : novel.then(judge);
  }

  #authorise(request: CommandRequest, hold: Hold, novel: boolean): Ruling | Promise<Ruling> {
    const digest = digestOf(request.text, request.params);
    const { policy } = this;
    const startedAtMs = Date.now();
    const decision = this.#decideOn(request, digest, novel, startedAtMs);
    const command = ++this.#commands;
    const judged: Judged = { command, startedAtMs, judgedAtMs: startedAtMs, digest, novel, decision, policy };
    const rates = decision.obligations?.rates;
    const usedUp = rates && this.#rates.take(this.#identityKey, this.target.name, rates, startedAtMs);
    const runsNow = decision.verdict === "allow" || decision.verdict === "mask";
    this.#recordIntent(request, judged, runsNow && usedUp === undefined);
    if (usedUp !== undefined) {
      // The policy's decision stays as it is recorded: what it depends on, and no more, gives it again.
      const denial = rateExceeded(usedUp, this.target.name);
      this.#outcome(command, "denied", startedAtMs, { refused: denial.rules[0] });
      return { kind: "denied", denial };
    }
    switch (decision.verdict) {
      case "allow":
      case "mask": {
        if (novel) return this.#remember(request, judged);
        return { kind: "permitted", permit: new IssuedPermit(judged, request.analysis) };
      }
      case "deny":
        this.#outcome(command, "denied", startedAtMs);
        return { kind: "denied", denial: deniedByPolicy(decision, this.id, command) };
      case "approve":
        return this.#hold(request, hold, judged);
    }
  }

  async #hold(request: CommandRequest, hold: Hold, judged: Judged): Promise<Ruling> {
    const { command, startedAtMs, digest, decision, policy } = judged;
    if (decision.approval === undefined) throw new GatewayError("policy.decision_invalid", "approve without its terms");
    const text = this.#texts.shownToApprovers(request);
    if (text === undefined) {
      return this.#notApproved(
        judged,
        "this command needs approval and is too long to be shown to who would approve it",
        `Send at most ${limits.approvalTextLengthMax} characters, what EXECUTE and FETCH stand for included.`,
      );
    }
    await this.committed();
    const outcome = await this.#approvals
      .hold(
        {
          session: this.id,
          command,
          identity: this.identity,
          target: this.target.name,
          text,
          digest,
          fingerprint: request.analysis.fingerprint,
          revision: policy.revision.digest,
          requirement: decision.approval,
        },
        (notice) => hold.notify(notice),
        hold.signal,
      )
      .catch((fault) => {
        if (fault instanceof GatewayError && fault.code === "approval.too_many") return fault;
        throw fault;
      });
    if (outcome instanceof GatewayError) return this.#notApproved(judged, outcome.message, outcome.hint);
    this.record({ type: "approval", at: Date.now(), command, approval: outcome.approval });
    const { state, id, by } = outcome.approval;
    if (state === "cancelled") return this.#cancelled(judged);
    if (outcome.kind === "refused") {
      const expired = `approval ${id} expired before it was decided`;
      return this.#notApproved(judged, state === "expired" ? expired : deniedBy(id, by.at(-1)));
    }
    const meaning = this.#isOutdated(request) ? "same" : await hold.stillMeans();
    if (meaning === "cancelled") return this.#cancelled(judged);
    // What its caller had sent before may have kept the target for longer than people gave.
    if (Date.now() >= outcome.expiresAtMs) {
      return this.#notApproved(judged, `approval ${id} expired before the command could run`);
    }
    // While people were deciding time went by, which policy may look at, and its revision may have changed: what it
    // says now counts. The approval is the one that was asked for only where that still asks for the same.
    const isSamePolicy = this.policy === policy;
    const judgedAtMs = Date.now();
    const again = meaning === "other" ? renamed : this.#decideOn(request, digest, judged.novel, judgedAtMs);
    const isApproved =
      isSamePolicy && again.verdict === "approve" && Bun.deepEquals(again.approval, decision.approval, true);
    if (isApproved || again.verdict === "allow" || again.verdict === "mask") {
      return this.#forward(request, { ...judged, judgedAtMs, decision: again, policy: this.policy });
    }
    const isOwn = isChanged(again);
    if (!isOwn) this.#recordIntent(request, { ...judged, judgedAtMs, decision: again, policy: this.policy }, false);
    this.#outcome(command, "denied", startedAtMs, isOwn ? { refused: again.rules[0] } : {});
    return { kind: "denied", denial: deniedAfterApproval(again, this.id, command) };
  }

  #notApproved({ command, startedAtMs, decision }: Judged, message: string, hint?: string): Ruling {
    this.#outcome(command, "denied", startedAtMs, { refused: { id: "sallyport.approval", message } });
    return { kind: "denied", denial: notApproved(decision, message, hint) };
  }

  #cancelled({ command, startedAtMs, decision }: Judged): Ruling {
    this.#outcome(command, "cancelled", startedAtMs);
    return { kind: "denied", denial: cancelled(decision) };
  }

  /** Another policy with other labels came in force since the analysis: it cannot judge what it sees there. */
  #isOutdated({ labels }: CommandRequest): boolean {
    return !sameLabels(labels, this.policy.labelsOf(this.target.name));
  }

  /** After an approval: the intent is recorded again, now as forwarded. */
  async #forward(request: CommandRequest, judged: Judged): Promise<Ruling> {
    this.#recordIntent(request, judged, true);
    return this.#remember(request, judged);
  }

  /** Its pattern is known from here on. */
  async #remember({ analysis }: CommandRequest, judged: Judged): Promise<Ruling> {
    this.#permitting = judged;
    await this.#novelty.saw(this.#identityKey, this.target.name, analysis.fingerprint);
    this.#permitting = undefined;
    return { kind: "permitted", permit: new IssuedPermit(judged, analysis) };
  }

  #decideOn(request: CommandRequest, digest: string, novel: boolean, atMs: number): Decision {
    const { analysis, params } = request;
    return this.#isOutdated(request) ? outdated : this.#decide(analysis, { digest, novel, params }, atMs);
  }

  #decide(analysis: CommandAnalysis, rest: CommandRest, atMs: number): Decision {
    if (atMs >= this.expiresAtMs) {
      throw new GatewayError("session.expired", "the token of this session has expired", {
        hint: "Get a new token and connect again.",
      });
    }
    this.#takeRevision();
    try {
      return this.#judge.judge(analysis, rest, policyNow(atMs, this.#policy.revision.timeZone)).decision;
    } catch (fault) {
      // A policy that cannot answer denies (invariant 1); what went wrong is in the log and named in the rule.
      this.#dependencies.log.error("policy evaluation failed", {
        session: this.id,
        digest: rest.digest,
        code: evaluationFault(fault),
        error: String((fault as Error).message),
      });
      return deniedByFault(fault);
    }
  }

  #recordIntent(request: CommandRequest, judged: Judged, forwarded: boolean): void {
    const words = this.#texts.recordedWords(request, judged.decision.rules);
    let analysis = this.#analyses.get(request.analysis);
    if (analysis === undefined) {
      analysis = ++this.#analysisCount;
      this.#analyses.set(request.analysis, analysis);
      this.record({ type: "analysis", id: analysis, analysis: words.analysis });
    }
    const { decision } = judged;
    const { approval } = decision;
    const { text, standsFor, params } = this.#texts.recorded(request);
    this.record({
      type: "intent",
      at: Date.now(),
      judgedAt: judged.judgedAtMs,
      command: judged.command,
      via: request.via,
      text,
      standsFor,
      params,
      digest: judged.digest,
      analysis,
      novel: judged.novel,
      verdict: decision.verdict,
      rules: words.rules,
      masks: decision.masks,
      diagnostics: decision.diagnostics,
      approval,
      obligations: decision.obligations,
      revision: judged.policy.revision.digest,
      forwarded,
    });
  }

  record(event: RecordedEvent): void {
    if (this.#closed) return;
    this.#recorder.append(event);
  }

  /** How a permitted command ended. */
  finish(permit: Permit, status: Outcome["status"], sqlstate?: string): void {
    this.#outcome(permit.command, status, permit.startedAtMs, { sqlstate });
  }

  #outcome(
    command: number,
    status: Outcome["status"],
    startedAtMs: number,
    { sqlstate, refused }: { readonly sqlstate?: string | undefined; readonly refused?: Rule | undefined } = {},
  ): void {
    const at = Date.now();
    this.record({ type: "outcome", at, command, status, sqlstate, refused, durationMs: at - startedAtMs });
  }

  /** Undefined when everything recorded so far may be acted upon now; else resolves when it may. */
  committed(): Promise<void> | undefined {
    return this.#recorder.committed();
  }

  /** Seals the recording. Safe to call twice. */
  async close(reason: string, message?: string): Promise<void> {
    if (this.#closed) return;
    if (this.#permitting) this.#outcome(this.#permitting.command, "lost", this.#permitting.startedAtMs);
    this.#closed = true;
    await this.#recorder.close({ type: "session.closed", at: Date.now(), reason, ...(message && { message }) });
  }
}

function baseInput(
  id: string,
  identity: Authenticated["identity"],
  target: TargetInput,
  client: OpenRequest["client"],
  context: SessionContext,
): Omit<SessionInput, "now"> {
  return { identity, target, session: { id, client, context } };
}
