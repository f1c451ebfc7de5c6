/**
 * Who may decide a held command, and who may see what: pure rules over identities, approvals and policy data.
 * Nobody decides for themselves; only a human in one of the approval's groups decides, once.
 */
import type { ErrorCode } from "../errors.ts";
import type { IdentityInput, IdentityKind } from "../policy/input.ts";
import { type Person, samePerson } from "../store/same-person.ts";

export interface Decider extends Person {
  readonly groups: readonly string[];
  readonly kind: IdentityKind;
}

/** What of an approval matters to who may decide it. */
export interface HeldCommand {
  readonly state: string;
  readonly requester: Person;
  /** Groups whose members may decide. */
  readonly from: readonly string[];
  readonly decidedBy: readonly Person[];
  readonly expiresAtMs: number;
}

export type MayDecide =
  | { readonly allowed: true }
  | { readonly allowed: false; readonly code: ErrorCode; readonly message: string };

const refuse = (code: ErrorCode, message: string): MayDecide => ({ allowed: false, code, message });

/** Who they are comes before the approval's state, so that an outsider learns nothing of the state. */
export function mayDecide(caller: Decider, held: HeldCommand, nowMs: number): MayDecide {
  if (caller.kind !== "human")
    return refuse("approval.forbidden", "Only a person can decide an approval, not an agent.");
  if (samePerson(caller, held.requester))
    return refuse("approval.forbidden", "Nobody decides their own command; ask another approver.");
  if (!isApprover(caller, held.from))
    return refuse(
      "approval.forbidden",
      `Deciding this needs membership of one of: ${[...held.from].sort().join(", ")}.`,
    );
  if (held.state !== "pending")
    return refuse("approval.not_pending", `This approval is ${held.state}; it waits no longer.`);
  if (nowMs >= held.expiresAtMs) return refuse("approval.not_pending", "This approval has expired.");
  if (held.decidedBy.some((person) => samePerson(person, caller)))
    return refuse("approval.not_pending", "You have decided this already; it waits for another approver.");
  return { allowed: true };
}

function isApprover(caller: Decider, from: readonly string[]): boolean {
  return from.some((group) => group !== "" && caller.groups.includes(group));
}

/** Whoever asked, whoever may decide, and auditors. */
export function maySeeApproval(caller: Decider, held: HeldCommand, policyData: unknown): boolean {
  if (caller.issuer === held.requester.issuer && caller.subject === held.requester.subject) return true;
  return (caller.kind === "human" && isApprover(caller, held.from)) || isAuditor(caller, policyData);
}

/** Members of the groups that policy data lists as `auditors`; a list of another shape makes nobody one. */
export function isAuditor(caller: Pick<IdentityInput, "groups">, policyData: unknown): boolean {
  if (typeof policyData !== "object" || policyData === null || !Object.hasOwn(policyData, "auditors")) return false;
  const auditors: unknown = (policyData as { auditors: unknown }).auditors;
  if (!Array.isArray(auditors)) return false;
  return auditors.some((group) => typeof group === "string" && group !== "" && caller.groups.includes(group));
}

/** One's own session is by issuer and subject; an e-mail alone opens no recording. */
export function maySeeSession(
  caller: Pick<IdentityInput, "issuer" | "subject" | "groups">,
  session: { readonly issuer: string; readonly subject: string },
  policyData: unknown,
): boolean {
  return (caller.issuer === session.issuer && caller.subject === session.subject) || isAuditor(caller, policyData);
}
