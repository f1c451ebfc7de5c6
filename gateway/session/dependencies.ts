/** What the session pipeline needs of the layers below it, as small interfaces that those layers' own types satisfy. */

import type { Verifier } from "../identity/verifier.ts";
import type { Logger } from "../log.ts";
import type { Decision, Revision } from "../policy/decision.ts";
import type { CommandAnalysis, NowInput, SessionInput } from "../policy/input.ts";
import type { CommandRest } from "../policy/visible-input.ts";
import type { RecordedEvent, SessionClosed, SessionOpened } from "../recording/events.ts";
import type { NewApproval, UseApproval } from "../store/queries.ts";

export interface SessionJudge {
  judge(analysis: CommandAnalysis, rest: CommandRest, now: NowInput): { readonly decision: Decision };
}

export interface PolicyRevision {
  readonly revision: Revision;
  labelsOf(targetName: string): ReadonlyMap<string, readonly string[]>;
  judgeSession(input: SessionInput): Decision;
  forSession(base: Omit<SessionInput, "now">): SessionJudge;
}

export interface PolicySource {
  current(): PolicyRevision;
}

export interface SessionRecorder {
  append(event: RecordedEvent): void;
  /** Undefined when what was appended may be acted upon now; else resolves when it may. */
  committed(): Promise<void> | undefined;
  close(event: SessionClosed): Promise<void>;
}

export interface RecordingSource {
  session(opened: SessionOpened): SessionRecorder;
}

export interface ApprovalState {
  readonly state: string;
  readonly decisions: readonly {
    readonly decision: string;
    readonly issuer: string;
    readonly subject: string;
    readonly email: string;
    readonly at: number;
    readonly reason?: string | null;
  }[];
}

/** The part of the store that sessions use. */
export interface SessionStore {
  fingerprintSeen(identityKey: string, target: string, fingerprint: string): Promise<boolean>;
  recordFingerprint(identityKey: string, target: string, fingerprint: string): Promise<void> | void;
  createApproval(row: NewApproval): Promise<unknown>;
  getApproval(id: string): Promise<ApprovalState | undefined>;
  consumeApproval(use: UseApproval): Promise<boolean>;
  expireApproval(id: string, state: "expired" | "cancelled"): Promise<unknown>;
}

export interface SessionDependencies {
  readonly verifier: Verifier;
  readonly policies: PolicySource;
  readonly recording: RecordingSource;
  readonly store: SessionStore;
  readonly log: Logger;
  /** The name of this gateway, recorded with each session. */
  readonly gateway: string;
  readonly redact: {
    /** All its SQL stays: people approve it by what they see. */
    readonly statement: (text: string) => string;
    readonly value: (text: string) => string;
  };
}
