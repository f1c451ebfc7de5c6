/**
 * A session without a target: commands go through the gateway's own machine, analyser, session pipeline and compiled
 * policy, and a stand-in for the target answers that each permitted one succeeded. Nothing here decides anything.
 */
import type { Logger } from "../../gateway/log.ts";
import type { CommandInput, IdentityInput, NowInput, SessionContext, TargetInput } from "../../gateway/policy/input.ts";
import { Policy } from "../../gateway/policy/policy.ts";
import type { NoticeFields } from "../../gateway/postgres/messages.ts";
import type { AnalysisRecorded, Intent, RecordedEvent, SessionOpened } from "../../gateway/recording/events.ts";
import { Approvals } from "../../gateway/session/approvals.ts";
import { policyNow } from "../../gateway/session/clock.ts";
import type { PolicyRevision, SessionDependencies, SessionStore } from "../../gateway/session/dependencies.ts";
import { Novelty } from "../../gateway/session/novelty.ts";
import { Rates } from "../../gateway/session/rates.ts";
import { Session } from "../../gateway/session/session.ts";
import { asItIs, recordingInto } from "../session-stand-ins.ts";
import type { SqlCatalog } from "./catalog/from-sql.ts";
import { DryAnalyser } from "./dry-analyser.ts";
import { inputOf } from "./recorded-input.ts";
import { StandInTarget } from "./stand-in-target.ts";

export interface DryRunOptions {
  readonly policy: Policy;
  readonly identity: IdentityInput;
  readonly target: TargetInput;
  readonly catalog: SqlCatalog;
  readonly context?: Partial<SessionContext>;
  readonly client?: { readonly address: string; readonly application: string };
  /** What policies see as the time; the machine's own when not given. */
  readonly nowMs?: number;
}

export interface DryCommand {
  readonly text: string;
  /** Given: the extended protocol (Parse, Bind, Execute). */
  readonly params?: readonly (string | null)[];
  /** Whether this kind of command is new; undefined: as the session's own past says. */
  readonly novel?: boolean;
  /** What people say where it is held. */
  readonly decided?: "approve" | "deny";
  /** What policy sees instead of what is so, by path: `command.novel`. */
  readonly seen?: Readonly<Record<string, unknown>>;
}

export interface DryJudgement {
  readonly intent: Intent;
  readonly input: CommandInput;
  /** What the caller is told where it is refused. */
  readonly error: NoticeFields | undefined;
}

export interface DryRun {
  readonly opened: SessionOpened;
  /** Why nothing can run in it. */
  readonly refused: string | undefined;
  run(command: DryCommand): Promise<DryJudgement>;
}

const limitlessMs = Number.MAX_SAFE_INTEGER;
const noLog: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => noLog };

interface Seen {
  readonly now: NowInput | undefined;
  /** By path; of the command that is judged. */
  changes: Readonly<Record<string, unknown>>;
}

/** The policy as it judges what a dry run shows it: at another time, or with parts of its input replaced. */
function shown(policy: Policy, seen: Seen): PolicyRevision {
  return {
    revision: policy.revision,
    labelsOf: (name) => policy.labelsOf(name),
    judgeSession: (input) => policy.judgeSession({ ...input, now: seen.now ?? input.now }),
    forSession(base) {
      const judge = policy.forSession(base);
      return {
        judge(analysis, rest, now) {
          const input = { ...base, command: { ...analysis, ...rest }, now: seen.now ?? now };
          if (Object.keys(seen.changes).length === 0) return judge.judge(analysis, rest, input.now);
          const { command, now: at, ...other } = replaced(input, seen.changes);
          return uncached(policy).forSession(other).judge(command, command, at);
        },
      };
    },
  };
}

const withoutCache = new WeakMap<Policy, Policy>();

/** The cache's key holds for inputs of the gateway's own shape only. */
function uncached(policy: Policy): Policy {
  if (policy.bundle.commandPaths === undefined) return policy;
  const made = withoutCache.get(policy) ?? new Policy({ ...policy.bundle, commandPaths: undefined });
  withoutCache.set(policy, made);
  return made;
}

/** @throws Error where nothing is at a path. */
function replaced<T extends object>(input: T, changes: Readonly<Record<string, unknown>>): T {
  const copy = structuredClone(input);
  for (const [path, value] of Object.entries(changes)) {
    const keys = path.split(".");
    const last = keys.pop() ?? "";
    const parent = keys.reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], copy);
    if (typeof parent !== "object" || parent === null) throw new Error(`the input has no ${path}`);
    (parent as Record<string, unknown>)[last] = value;
  }
  return copy;
}

/** The store of one session: what it ran, and what people decided about its held commands. */
class DryStore implements SessionStore {
  readonly #seen = new Set<string>();
  novel: boolean | undefined;
  decided: "approve" | "deny" = "deny";

  async fingerprintSeen(_identity: string, _target: string, fingerprint: string): Promise<boolean> {
    return this.novel === undefined ? this.#seen.has(fingerprint) : !this.novel;
  }
  recordFingerprint(_identity: string, _target: string, fingerprint: string): void {
    this.#seen.add(fingerprint);
  }
  async createApproval(): Promise<void> {}
  async getApproval() {
    return { state: this.decided === "approve" ? "approved" : "denied", decisions: [] };
  }
  async consumeApproval(): Promise<boolean> {
    return true;
  }
  async expireApproval(): Promise<void> {}
}

export async function openDryRun(options: DryRunOptions): Promise<DryRun> {
  const { identity, target } = options;
  const store = new DryStore();
  const events: RecordedEvent[] = [];
  const { timeZone: zone } = options.policy.revision;
  const now = options.nowMs === undefined ? undefined : policyNow(options.nowMs, zone);
  const seen: Seen = { now, changes: {} };
  const revision = shown(options.policy, seen);
  const dependencies: SessionDependencies = {
    verifier: { verify: () => Promise.reject(new Error("a dry run has no tokens")) },
    policies: { current: () => revision },
    recording: recordingInto(events),
    store,
    log: noLog,
    gateway: "dry-run",
    redact: asItIs,
  };
  const context: SessionContext = { reason: "", prompt: "", ticket: "", trace: "", ...options.context };
  // Novelty is asked of the store each time: a fixture may say what it is.
  const novelty = new Novelty(store);
  const request = {
    authenticated: { identity, expiresAtMs: limitlessMs, graceMs: 0 },
    target,
    client: options.client ?? { address: "127.0.0.1", application: "" },
    context,
  };
  let session: Session | undefined;
  let refused: string | undefined;
  try {
    session = await Session.open(
      dependencies,
      { approvals: new Approvals(store), novelty, rates: new Rates() },
      request,
    );
  } catch (error) {
    refused = (error as Error).message;
  }
  const [opened] = events;
  if (opened?.type !== "session.opened") throw new Error(refused ?? "the session was not opened");
  if (session === undefined) {
    return { opened, refused, run: () => Promise.reject(new Error(refused)) };
  }
  const stand = new StandInTarget(session, new DryAnalyser(options.catalog, options.policy.labelsOf(target.name)));
  return {
    opened,
    refused,
    async run(command) {
      store.novel = command.novel;
      store.decided = command.decided ?? "deny";
      seen.changes = command.seen ?? {};
      const before = events.length;
      const claims = session.context;
      const error = await stand.run(command.text, command.params);
      const intent = events.slice(before).find((event): event is Intent => event.type === "intent");
      if (intent === undefined) throw new Error(error?.M ?? "the command was not judged");
      const analysis = events.find(
        (event): event is AnalysisRecorded => event.type === "analysis" && event.id === intent.analysis,
      );
      if (analysis === undefined) throw new Error("the command was not analysed");
      return {
        intent,
        input: inputOf(opened, claims, intent, analysis.analysis, now ?? policyNow(intent.judgedAt, zone)),
        error,
      };
    },
  };
}
