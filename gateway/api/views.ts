/** What the API reads from the store, and how it shows it: times as RFC 3339, nothing that a caller needs not. */
import type { Verdict } from "../policy/decision.ts";
import type { ApprovalFilter, SessionFilter } from "../store/queries.ts";
import type { Person } from "../store/same-person.ts";
import type { HeldCommand } from "./approval-rules.ts";

export interface ApprovalRecord extends Person {
  readonly id: string;
  readonly state: string;
  readonly session: string;
  readonly command: number;
  readonly target: string;
  /** The held statement, with secrets redacted. */
  readonly text: string;
  readonly digest: string;
  /** Digest of the policy's revision. */
  readonly revision: string;
  readonly from: readonly string[];
  readonly count: number;
  /** Milliseconds since the epoch, as every time here. */
  readonly created: number;
  readonly expires: number;
  readonly decisions: readonly ApprovalDecision[];
}
export interface ApprovalDecision extends Person {
  readonly decision: string;
  readonly at: number;
  readonly reason?: string | null | undefined;
}

export interface SessionRecord extends Person {
  readonly id: string;
  readonly kind: string;
  readonly target: string;
  readonly openedAt: number;
  readonly closedAt: number | null;
  readonly closeReason: string | null;
  readonly commands: number;
  /** Recorded so far. */
  readonly events: number;
}

/** With `issuer` and `subject`: sessions of exactly this identity. */
export interface SessionQuery extends SessionFilter {
  readonly verdict?: Verdict | undefined;
}

/** The part of the store that the API uses. */
export interface ApiStore {
  listApprovals(query: ApprovalFilter): Promise<readonly ApprovalRecord[]>;
  getApproval(id: string): Promise<ApprovalRecord | undefined>;
  decideApproval(decision: {
    readonly id: string;
    readonly decision: "approve" | "deny";
    readonly by: Person & { readonly groups: readonly string[] };
    readonly at: number;
    readonly reason?: string;
  }): Promise<ApprovalRecord>;
  listSessions(query: SessionQuery): Promise<readonly SessionRecord[]>;
  /** Of these, the ones that ran a statement with this text; `next` where the time for one request was over before. */
  searchSessions(query: SessionQuery, text: string): Promise<SessionPage>;
  getSession(id: string): Promise<SessionRecord | undefined>;
  /** Its events as JSON, some at a time. @param from number of an event, 1 is the first */
  lines(id: string, from?: number): AsyncIterable<{ readonly lines: readonly string[] }>;
}

/** One that a store was tampered with to have is shown as it is, so that the rest can be shown too. */
function time(at: number): string {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? String(at) : date.toISOString();
}

export function heldCommand(record: ApprovalRecord): HeldCommand {
  return {
    state: record.state,
    requester: record,
    from: record.from,
    decidedBy: record.decisions,
    expiresAtMs: record.expires,
  };
}

export function approvalView(record: ApprovalRecord, nowMs: number) {
  const { issuer, subject, email } = record;
  // Whoever holds the command marks it expired; until then it must not look decidable.
  const state = record.state === "pending" && nowMs >= record.expires ? "expired" : record.state;
  return {
    id: record.id,
    state,
    session: record.session,
    command: record.command,
    requester: { issuer, subject, email },
    target: record.target,
    text: record.text,
    digest: record.digest,
    revision: record.revision,
    from: record.from,
    count: record.count,
    createdAt: time(record.created),
    expiresAt: time(record.expires),
    decisions: record.decisions.map((decision) => ({
      decision: decision.decision,
      by: { issuer: decision.issuer, subject: decision.subject, email: decision.email },
      at: time(decision.at),
      ...(decision.reason != null && { reason: decision.reason }),
    })),
  };
}

export function sessionView(record: SessionRecord) {
  const { id, issuer, subject, email, kind, target, commands, events } = record;
  return {
    id,
    identity: { issuer, subject, email, kind },
    target,
    openedAt: time(record.openedAt),
    closedAt: record.closedAt === null ? null : time(record.closedAt),
    closeReason: record.closeReason,
    commands,
    events,
  };
}

export interface SessionPage {
  readonly sessions: readonly SessionRecord[];
  /** `before` of the next page, or null on the last. */
  readonly next: string | null;
}

/** @param limit of the page that was asked for: a full one may have another behind it */
export function pageOf(sessions: readonly SessionRecord[], limit: number): SessionPage {
  const last = sessions.at(-1);
  return { sessions, next: sessions.length === limit && last !== undefined ? last.id : null };
}

export function pageView({ sessions, next }: SessionPage) {
  return { sessions: sessions.map(sessionView), next };
}
