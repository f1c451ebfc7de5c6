/** A command that goes no further, and what its caller is told: what is wrong, by which rules, and what to do. */
import { GatewayError } from "../errors.ts";
import type { Decision, Rule } from "../policy/decision.ts";
import type { ApprovalRecorded } from "../recording/events.ts";
import type { UsedUp } from "./rates.ts";

export interface Denial {
  readonly code: "denied" | "cancelled" | "rate_exceeded";
  readonly message: string;
  readonly detail: string;
  readonly hint: string;
  readonly rules: readonly Rule[];
}

/** The hint where nothing is wrong with the command itself. */
const runAgain = "Run it again.";

/** A decision of the gateway's own, by a rule of its own. */
function deniedBecause(id: string, message: string): Decision {
  return { verdict: "deny", rules: [{ id: `sallyport.${id}`, message }], masks: [], diagnostics: "canonical" };
}

/** What changed under a command, which is not at fault. */
export const outdated = deniedBecause("labels_changed", "the policy's labels changed while this command waited");
export const renamed = deniedBecause("names_changed", "what the names in this command mean changed while it was held");

export function evaluationFault(fault: unknown): string {
  return fault instanceof GatewayError ? fault.code : "policy.evaluation_failed";
}

/** A policy that cannot answer denies; the caller is told what it can do something about. */
export function deniedByFault(fault: unknown): Decision {
  const bound = fault instanceof GatewayError && fault.code === "policy.input_too_large" ? `. ${fault.hint}` : "";
  return deniedBecause(evaluationFault(fault), `the policy could not judge this command${bound}`);
}

export function isChanged(decision: Decision): boolean {
  return decision === outdated || decision === renamed;
}

export function deniedByPolicy(decision: Decision, session: string, command: number): Denial {
  const { rules } = decision;
  const hint = isChanged(decision)
    ? runAgain
    : `Change the command as the rules say, or ask the owners of the policy. What decided: sallyport policy explain --session ${session} --command ${command}`;
  return { code: "denied", message: denialMessage(rules, "this command"), detail: detailOf(rules), hint, rules };
}

/** Policy asks for something else than was approved. */
export function deniedAfterApproval(decision: Decision, session: string, command: number): Denial {
  const denial = deniedByPolicy(decision, session, command);
  if (decision.verdict === "deny") return denial;
  return { ...denial, message: "what policy asks for changed while this command was held", hint: runAgain };
}

/** @param who said no, with the reason that they gave. It is shown on the caller's terminal. */
export function deniedBy(approval: string, who: ApprovalRecorded["by"][number] | undefined): string {
  if (who === undefined) return `approval ${approval} was denied`;
  const why = who.reason === undefined ? "" : `: ${who.reason.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, " ")}`;
  return `approval ${approval} was denied by ${who.email || who.subject}${why}`;
}

/** Nobody said yes to it in time. */
export function notApproved({ rules, approval }: Decision, message: string, otherHint?: string): Denial {
  const hint = otherHint ?? `Run it again to ask once more; members of ${approval?.from.join(", ")} may approve.`;
  return { code: "denied", message, detail: detailOf(rules), hint, rules };
}

/** Its caller gave it up while it was held. */
export function cancelled({ rules }: Decision): Denial {
  const message = "canceling statement due to user request";
  return { code: "cancelled", message, detail: detailOf(rules), hint: "", rules };
}

export function rateExceeded({ rate, waitMs }: UsedUp, target: string): Denial {
  const message = `at most ${rate.commands} commands in ${spanOf(rate.per_ms)} on "${target}"`;
  return {
    code: "rate_exceeded",
    message: `too many commands: ${rate.rule}`,
    detail: `${rate.rule}: ${message}`,
    hint: `Run it again in ${spanOf(Math.ceil(waitMs / 1_000) * 1_000)}.`,
    rules: [{ id: rate.rule, message }],
  };
}

/** @param what was asked for */
export function denialMessage(rules: readonly Rule[], what: string): string {
  const ids = rules.map((rule) => rule.id).join(", ");
  return ids === "" ? `policy denies ${what}` : `policy denies ${what}: ${ids}`;
}

function detailOf(rules: readonly Rule[]): string {
  return rules.map((rule) => `${rule.id}: ${rule.message}`).join("\n");
}

/** 90000 → "90 s" */
function spanOf(ms: number): string {
  if (ms % 1_000 !== 0) return `${ms} ms`;
  const seconds = ms / 1_000;
  if (seconds % 3_600 === 0) return `${seconds / 3_600} h`;
  return seconds % 60 === 0 && seconds > 60 ? `${seconds / 60} min` : `${seconds} s`;
}
