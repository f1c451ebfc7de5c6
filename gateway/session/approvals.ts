/**
 * Holds a command until people decide. An approval is bound to the digest of text and parameters, the target, the
 * identity and the policy revision; it is used once and expires. The store decides races: a decision and its use are
 * conditional updates there, so several gateways may share it.
 */
import { randomUUID } from "node:crypto";
import { durationToMs } from "../config.ts";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { ApprovalRequirement } from "../policy/decision.ts";
import type { IdentityInput } from "../policy/input.ts";
import type { ApprovalRecorded } from "../recording/events.ts";
import type { ApprovalState, SessionStore } from "./dependencies.ts";

export interface HeldCommand {
  readonly session: string;
  readonly command: number;
  readonly identity: IdentityInput;
  readonly target: string;
  /** As approvers see it, whole. */
  readonly text: string;
  readonly digest: string;
  readonly fingerprint: string;
  readonly revision: string;
  readonly requirement: ApprovalRequirement;
}

export interface HoldNotice {
  readonly id: string;
  readonly from: readonly string[];
  readonly count: number;
  readonly expiresAtMs: number;
}

export type HoldOutcome =
  | { readonly kind: "approved"; readonly approval: ApprovalRecorded; readonly expiresAtMs: number }
  | { readonly kind: "refused"; readonly approval: ApprovalRecorded };

const pollMs = limits.approvalPollMs;

export class Approvals {
  readonly #store: SessionStore;
  readonly #pending = new Map<string, number>();
  #pendingTotal = 0;
  /** Wakes a waiter at once when the decision came through this process. */
  readonly #wakers = new Map<string, () => void>();

  constructor(store: SessionStore) {
    this.#store = store;
  }

  /** The API decided this approval in this process. */
  wake(id: string): void {
    this.#wakers.get(id)?.();
  }

  /** @param signal aborts the wait: the caller cancelled or left. @throws GatewayError approval.too_many, store.unavailable */
  async hold(held: HeldCommand, notify: (notice: HoldNotice) => void, signal: AbortSignal): Promise<HoldOutcome> {
    const who = `${held.identity.issuer}\n${held.identity.subject}`;
    const mine = this.#pending.get(who) ?? 0;
    if (mine >= limits.approvalsPendingPerIdentityMax || this.#pendingTotal >= limits.approvalsPendingMax) {
      throw new GatewayError("approval.too_many", "too many commands of yours wait for approval", {
        hint: "Wait for them to be decided, or cancel them.",
      });
    }
    this.#pending.set(who, mine + 1);
    this.#pendingTotal += 1;
    try {
      return await this.#wait(held, notify, signal);
    } finally {
      const left = (this.#pending.get(who) ?? 1) - 1;
      if (left === 0) this.#pending.delete(who);
      else this.#pending.set(who, left);
      this.#pendingTotal -= 1;
    }
  }

  async #wait(held: HeldCommand, notify: (notice: HoldNotice) => void, signal: AbortSignal): Promise<HoldOutcome> {
    const { requirement } = held;
    // 12 hexadecimal digits: short enough to type, and useless without an approver's own token.
    const id = `ap-${randomUUID().replaceAll("-", "").slice(0, 12)}`;
    const created = Date.now();
    const expires = created + Math.min(durationToMs(requirement.ttl), limits.approvalTtlMsMax);
    await this.#store.createApproval({
      id,
      session: held.session,
      command: held.command,
      issuer: held.identity.issuer,
      subject: held.identity.subject,
      email: held.identity.email,
      target: held.target,
      text: held.text,
      digest: held.digest,
      fingerprint: held.fingerprint,
      revision: held.revision,
      from: [...requirement.from],
      count: requirement.count,
      created,
      expires,
    });
    notify({ id, from: requirement.from, count: requirement.count, expiresAtMs: expires });
    try {
      for (;;) {
        const now = Date.now();
        if (signal.aborted) return await this.#end(id, "cancelled");
        const row = await this.#store.getApproval(id);
        if (row === undefined) throw new GatewayError("store.unavailable", "the approval is no longer in the store");
        if (row.state === "approved") {
          const used = await this.#store.consumeApproval({
            id,
            digest: held.digest,
            revision: held.revision,
            issuer: held.identity.issuer,
            subject: held.identity.subject,
            target: held.target,
            at: now,
          });
          if (!used) return { kind: "refused", approval: { id, state: "expired", by: deciders(row) } };
          return { kind: "approved", approval: { id, state: "approved", by: deciders(row) }, expiresAtMs: expires };
        }
        if (row.state === "denied") return { kind: "refused", approval: { id, state: "denied", by: deciders(row) } };
        if (row.state !== "pending" || now >= expires) return await this.#end(id, "expired");
        await this.#sleep(id, Math.min(pollMs, expires - now), signal);
      }
    } finally {
      this.#wakers.delete(id);
    }
  }

  async #end(id: string, state: "expired" | "cancelled"): Promise<HoldOutcome> {
    await this.#store.expireApproval(id, state);
    return { kind: "refused", approval: { id, state, by: [] } };
  }

  #sleep(id: string, ms: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal.addEventListener("abort", done, { once: true });
      this.#wakers.set(id, done);
    });
  }
}

function deciders({ decisions }: Pick<ApprovalState, "decisions">): ApprovalRecorded["by"] {
  return decisions.map(({ issuer, subject, email, at, reason }) => ({
    ...{ issuer, subject, email, at },
    ...(reason != null && reason !== "" && { reason }),
  }));
}
