/** Holds against a store in memory: how many there may be, how long one lives, and that a decision elsewhere is seen. */
import { expect, test } from "bun:test";
import { loweredLimits } from "../../scripts/lowered-limits.ts";
import { limits } from "../limits.ts";
import type { NewApproval } from "../store/queries.ts";
import { Approvals, type HeldCommand } from "./approvals.ts";
import type { SessionStore } from "./dependencies.ts";

function storeInMemory() {
  const rows = new Map<string, { row: NewApproval; state: string }>();
  const store: SessionStore = {
    fingerprintSeen: async () => true,
    recordFingerprint: () => undefined,
    createApproval: async (row) => void rows.set(row.id, { row, state: "pending" }),
    getApproval: async (id) => ({ state: rows.get(id)?.state ?? "", decisions: [] }),
    consumeApproval: async ({ id }) => rows.get(id)?.state === "approved",
    expireApproval: async (id, state) => {
      const held = rows.get(id);
      if (held) held.state = state;
    },
  };
  return { store, rows };
}
const held = (subject: string, ttl = "15m"): HeldCommand => ({
  ...{ session: "s", command: 1, target: "db", text: "drop table t", digest: "d", fingerprint: "f", revision: "r" },
  identity: { issuer: "i", subject, email: `${subject}@example.com`, groups: [], kind: "agent", claims: {} },
  requirement: { from: ["dba"], count: 1, ttl },
});

/** Holds until aborted. @returns the outcome's word, or the error's code */
function holding(approvals: Approvals, command: HeldCommand, signal: AbortSignal) {
  return approvals
    .hold(command, () => undefined, signal)
    .then(
      ({ approval }) => approval.state as string,
      (error: { code: string }) => error.code,
    );
}

test("one held command too many of an identity is refused, another's is held, and one that ended makes room", async () => {
  const { store } = storeInMemory();
  const approvals = new Approvals(store);
  const stop = new AbortController();
  const mine = Array.from({ length: limits.approvalsPendingPerIdentityMax }, () =>
    holding(approvals, held("robot"), stop.signal),
  );
  expect(await holding(approvals, held("robot"), stop.signal)).toBe("approval.too_many");
  mine.push(holding(approvals, held("other"), stop.signal));
  await Bun.sleep(10);
  stop.abort();
  expect(new Set(await Promise.all(mine))).toEqual(new Set(["cancelled"]));
  expect(await holding(approvals, held("robot"), AbortSignal.abort())).toBe("cancelled");
});

test("one held command too many of all is refused, whoever asks", async () => {
  using _ = loweredLimits({ approvalsPendingMax: 3 });
  const { store } = storeInMemory();
  const approvals = new Approvals(store);
  const stop = new AbortController();
  const all = ["a", "b", "c"].map((who) => holding(approvals, held(who), stop.signal));
  expect(await holding(approvals, held("d"), stop.signal)).toBe("approval.too_many");
  stop.abort();
  expect(await Promise.all(all)).toEqual(["cancelled", "cancelled", "cancelled"]);
});

test("an approval lives no longer than the limit, whatever policy says", async () => {
  const { store, rows } = storeInMemory();
  await holding(new Approvals(store), held("robot", "1000h"), AbortSignal.abort());
  const [{ row }] = [...rows.values()] as unknown as [{ row: NewApproval }];
  expect(row.expires - row.created).toBe(limits.approvalTtlMsMax);
});

test("a decision made through another gateway is seen at the next look", async () => {
  const { store, rows } = storeInMemory();
  const outcome = holding(new Approvals(store), held("robot"), AbortSignal.timeout(5 * limits.approvalPollMs));
  await Bun.sleep(20);
  const from = performance.now();
  for (const one of rows.values()) one.state = "approved";
  expect(await outcome).toBe("approved");
  expect(performance.now() - from).toBeLessThan(2 * limits.approvalPollMs);
});
