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
