/**
 * Tells subscribers of approvals as they appear and change. Gateways share the store, so the store is asked: once for
 * all subscribers, and only while there are any.
 */
import { limits } from "../limits.ts";
import type { Logger } from "../log.ts";
import type { Person } from "../store/same-person.ts";
import type { ApiDependencies } from "./dependencies.ts";
import type { ApprovalRecord } from "./views.ts";

type Identity = Pick<Person, "issuer" | "subject">;

export interface ApprovalFeed {
  /** New subscribers get what is pending first. @returns what ends the subscription. */
  subscribe(identity: Identity, listener: (record: ApprovalRecord) => void): () => void;
  /** Subscriptions, of all or of one identity. */
  size(identity?: Identity): number;
}

interface Subscription {
  readonly identity: Identity;
  /** Versions of approvals by their ids. */
  readonly told: Map<string, string>;
}

export function createApprovalFeed(deps: {
  readonly store: ApiDependencies["store"];
  readonly log: Logger;
}): ApprovalFeed {
  const listeners = new Map<(record: ApprovalRecord) => void, Subscription>();
  let timer: ReturnType<typeof setTimeout> | undefined;

  async function poll(): Promise<void> {
    try {
      const pending = await deps.store.listApprovals({ state: "pending", limit: limits.approvalsPendingMax });
      const present = new Set(pending.map((record) => record.id));
      const gone = new Set<string>();
      for (const { told } of listeners.values()) for (const id of told.keys()) if (!present.has(id)) gone.add(id);
      const settled: ApprovalRecord[] = [];
      for (const id of gone) {
        const record = await deps.store.getApproval(id);
        if (record !== undefined) settled.push(record);
      }
      for (const [listener, { told }] of listeners) {
        for (const record of pending) {
          const version = `${record.state} ${record.decisions.length}`;
          if (told.get(record.id) === version) continue;
          told.set(record.id, version);
          listener(record);
        }
        for (const record of settled) if (told.delete(record.id)) listener(record);
      }
    } catch (error) {
      deps.log.warn("approvals could not be read for streams", { error });
    }
    timer = listeners.size > 0 ? setTimeout(() => void poll(), limits.approvalPollMs) : undefined;
  }

  return {
    subscribe(identity, listener) {
      listeners.set(listener, { identity, told: new Map() });
      if (timer === undefined) timer = setTimeout(() => void poll(), 0);
      return () => void listeners.delete(listener);
    },
    size(identity) {
      if (identity === undefined) return listeners.size;
      const isTheirs = ({ identity: other }: Subscription) =>
        other.issuer === identity.issuer && other.subject === identity.subject;
      return [...listeners.values()].filter(isTheirs).length;
    },
  };
}
