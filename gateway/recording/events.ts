/**
 * What a recording is made of. A session is a list of events in the order they happened; each is one line of JSON,
 * chained by SHA-256 (`chain.ts`). Order for a command: intent, then zero or more rows, notice, result, then outcome.
 * An intent is durable (in `strict`) before anything of its command reaches the target.
 */
import type { ApprovalRequirement, Mask, Obligations, Revision, Rule, Verdict } from "../policy/decision.ts";
import type { CommandAnalysis, IdentityInput, SessionContext, TargetInput } from "../policy/input.ts";

/** Milliseconds since the epoch. */
type Millis = number;

export interface SessionOpened {
  readonly type: "session.opened";
  readonly at: Millis;
  readonly session: string;
  readonly identity: IdentityInput;
  readonly target: TargetInput;
  readonly client: { readonly address: string; readonly application: string };
  readonly context: SessionContext;
  readonly revision: Revision;
  readonly verdict: Verdict;
  readonly rules: readonly Rule[];
  readonly gateway: string;
}
/** The session's own claims changed (SET sallyport.reason = …). */
export interface ContextChanged {
  readonly type: "session.context";
  readonly at: Millis;
  readonly context: SessionContext;
}
/** An analysis that later intents of this session name by `id`; written once per session. */
export interface AnalysisRecorded {
  readonly type: "analysis";
  readonly id: number;
  readonly analysis: CommandAnalysis;
}
export interface ApprovalRecorded {
  readonly id: string;
  readonly state: "approved" | "denied" | "expired" | "cancelled";
  readonly by: readonly {
    readonly issuer: string;
    readonly subject: string;
    readonly email: string;
    readonly at: Millis;
    /** In their own words, secrets redacted. */
    readonly reason?: string;
  }[];
}
/** A command was judged. With verdict allow or mask (or an approved approval) it is about to be forwarded. */
export interface Intent {
  readonly type: "intent";
  readonly at: Millis;
  /** When policy judged: its `input.now` is this, in whole seconds. Earlier than `at` where people decided in between. */
  readonly judgedAt: Millis;
  /** 1, 2, 3 … in the session. */
  readonly command: number;
  /** Where the command came from: "query", "parse", "execute", "sql-execute" … */
  readonly via: string;
  /** The statement with secrets redacted, cut at `recordedTextBytesMax`. */
  readonly text: string;
  /** What its EXECUTE and FETCH stand for, as `text`; left out where it has none. */
  readonly standsFor?: readonly string[] | undefined;
  readonly params: readonly (string | null)[];
  /** Digest of the complete, unredacted text and parameters. */
  readonly digest: string;
  /** `id` of an earlier analysis event, or null when the text could not be analysed. */
  readonly analysis: number | null;
  readonly novel: boolean;
  readonly verdict: Verdict;
  readonly rules: readonly Rule[];
  readonly masks: readonly Mask[];
  readonly diagnostics: "full" | "canonical";
  readonly approval?: ApprovalRequirement | undefined;
  readonly obligations?: Obligations | undefined;
  /** Digest of the revision; the commit is in the session's opening or the latest revision event. */
  readonly revision: string;
  /** Whether this intent goes on to the target. A denied one and one awaiting approval do not. */
  readonly forwarded: boolean;
}
/** The session saw another revision of the policy. */
export interface RevisionChanged {
  readonly type: "session.revision";
  readonly at: Millis;
  readonly revision: Revision;
}
export interface ApprovalDecided {
  readonly type: "approval";
  readonly at: Millis;
  readonly command: number;
  readonly approval: ApprovalRecorded;
}
export interface RecordedColumn {
  readonly name: string;
  readonly table: number;
  readonly attnum: number;
  readonly type: number;
  /** 0 text, 1 binary. */
  readonly format: 0 | 1;
  readonly mask?: string;
}
/** Rows as the caller saw them. A text value is itself, a binary one is \x and hex, SQL NULL is null. */
export interface RowsRecorded {
  readonly type: "rows";
  readonly command: number;
  /** Present on the first rows event of a result. */
  readonly columns?: readonly RecordedColumn[] | undefined;
  readonly rows: readonly (readonly (string | null)[])[];
}
/** Bytes of a COPY as the caller sent or saw them, UTF-8 or \x hex, up to the cap. */
export interface CopyRecorded {
  readonly type: "copy";
  readonly command: number;
  readonly direction: "in" | "out";
  readonly data: string;
}
export interface NoticeRecorded {
  readonly type: "notice";
  readonly at: Millis;
  readonly command: number | null;
  readonly fields: Readonly<Record<string, string>>;
}
/** One statement of the command ended. */
export interface ResultRecorded {
  readonly type: "result";
  readonly at: Millis;
  readonly command: number;
  /** CommandComplete's tag, "" for an empty query, "SUSPENDED" for a portal with rows left. */
  readonly tag: string;
  readonly rows: number;
  readonly bytes: number;
  /** Rows beyond the cap: how many, and sha256:<hex> over their DataRow messages as the caller saw them. */
  readonly unrecorded?: { readonly rows: number; readonly bytes: number; readonly digest: string } | undefined;
  readonly error?: Readonly<Record<string, string>> | undefined;
}
export interface Outcome {
  readonly type: "outcome";
  readonly at: Millis;
  readonly command: number;
  readonly status: "ok" | "error" | "denied" | "cancelled" | "skipped" | "lost";
  readonly sqlstate?: string | undefined;
  /** Why a command went no further that policy had permitted: a rate that was used up, or a command that evades. */
  readonly refused?: Rule | undefined;
  readonly durationMs: number;
}
export interface SessionClosed {
  readonly type: "session.closed";
  readonly at: Millis;
  /** client, upstream, expired, drained, fault, interrupted (found open after a crash) … */
  readonly reason: string;
  readonly message?: string;
}

export type RecordedEvent =
  | SessionOpened
  | ContextChanged
  | RevisionChanged
  | AnalysisRecorded
  | Intent
  | ApprovalDecided
  | RowsRecorded
  | CopyRecorded
  | NoticeRecorded
  | ResultRecorded
  | Outcome
  | SessionClosed;
