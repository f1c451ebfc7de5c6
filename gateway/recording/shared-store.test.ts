/** Gateways that share a store over the network. */
import { afterAll, afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sessionOpened } from "../../scripts/session-stand-ins.ts";
import { type SharedStore, serveSharedStore } from "../../scripts/shared-store.ts";
import { openBeside } from "../store/database.ts";
import { storeQueries } from "../store/queries.ts";
import { verifySession } from "./reader.ts";
import { sealChainProblem } from "./seal.ts";
import { Recording } from "./writer.ts";

const folder = mkdtempSync(join(tmpdir(), "sallyport-shared-"));
afterAll(() => rmSync(folder, { recursive: true }));
let stores = 0;
let undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.reverse()) await step();
  undo = [];
});

function serve(): SharedStore {
  const store = serveSharedStore(join(folder, `${stores++}.db`));
  undo.push(() => store.stop());
  return store;
}

async function openGateway(store: SharedStore, gateway: string): Promise<Recording> {
  const recording = await Recording.open({ url: store.url, durability: "strict", gateway });
  undo.push(() => recording.close());
  return recording;
}

async function record(recording: Recording, gateway: string, id: string): Promise<void> {
  const session = recording.session({ ...sessionOpened(id, "ann", Date.now()), gateway });
  await session.committed();
  await session.close({ type: "session.closed", at: Date.now(), reason: "client" });
}

test("two gateways that seal at once follow each other in one chain", async () => {
  const store = serve();
  const [a, b] = [await openGateway(store, "a"), await openGateway(store, "b")];
  const ids = Array.from({ length: 20 }, (_, n) => [`a${n}`, `b${n}`]).flat();
  await Promise.all(ids.map((id) => (id.startsWith("a") ? record(a, "a", id) : record(b, "b", id))));
  expect([a.failure, b.failure]).toEqual([undefined, undefined]);
  for (const id of ids) expect(await verifySession(a.calls, id)).toMatchObject({ ok: true });
  const db = await openBeside(store);
  expect(await sealChainProblem((n) => storeQueries.sealPage(db, n), undefined)).toBeUndefined();
  expect(await storeQueries.sealPage(db, 1)).toHaveLength(ids.length);
});

test("gateways that start at once on a store that is new all have it", async () => {
  for (let round = 0; round < 3; round++) {
    const store = serve();
    const opened = await Promise.all(["a", "b", "c"].map((gateway) => openGateway(store, gateway)));
    for (const { calls } of opened) expect(await calls.listSessions({ limit: 1 })).toEqual([]);
  }
});

test("what two gateways are told at once of one approval is decided once, and it is used once", async () => {
  const store = serve();
  const [a, b] = [await openGateway(store, "a"), await openGateway(store, "b")];
  const person = (subject: string) => ({ issuer: "https://idp", subject, email: `${subject}@example.com` });
  const held = { ...person("ann"), target: "db", digest: "d", revision: "r" };
  const approval = {
    ...held,
    session: "s",
    command: 1,
    text: "x",
    fingerprint: "f",
    from: ["dba"],
    created: 1,
    expires: 9,
  };
  const decide = (by: Recording, id: string, subject: string, decision: "approve" | "deny") =>
    by.calls.decideApproval({ id, decision, by: person(subject), at: 5 }).then(
      ({ state }) => state,
      ({ code }) => code,
    );
  await a.calls.createApproval({ ...approval, id: "one", count: 1 });
  const twice = await Promise.all([decide(a, "one", "bob", "approve"), decide(b, "one", "bob", "deny")]);
  expect(twice).toContain("approval.not_pending");
  await a.calls.createApproval({ ...approval, id: "two", count: 2 });
  const same = await Promise.all([decide(a, "two", "bob", "approve"), decide(b, "two", "bob", "approve")]);
  expect(same.sort()).toEqual(["approval.not_pending", "pending"]);
  expect(await decide(b, "two", "cyd", "approve")).toBe("approved");
  const use = { ...held, id: "two", at: 6 };
  const used = await Promise.all([a.calls.consumeApproval(use), b.calls.consumeApproval(use)]);
  expect(used.sort()).toEqual([false, true]);
});
