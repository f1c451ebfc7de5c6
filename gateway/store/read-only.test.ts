import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sql } from "drizzle-orm";
import type { GatewayError } from "../errors.ts";
import { openDatabase } from "./database.ts";
import { storeQueries } from "./queries.ts";
import { openReadOnly } from "./read-only.ts";

const folder = mkdtempSync(join(tmpdir(), "sallyport-read-only-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("what is opened for reading takes no statement that writes", async () => {
  const url = `file:${join(folder, "store.db")}`;
  const writing = await openDatabase({ url, durability: "strict" });
  await storeQueries.recordFingerprint(writing, "i", "t", "f");
  writing.$client.close();
  const reading = await openReadOnly({ url });
  expect(await storeQueries.fingerprintSeen(reading, "i", "t", "f")).toBe(true);
  for (const statement of [
    storeQueries.recordFingerprint(reading, "i", "t", "g"),
    reading.run(sql`delete from fingerprints`),
    reading.run(sql`create table other (a)`),
  ]) {
    const refused = await statement.then(
      () => "it ran",
      (error: Error) => String(error.cause ?? error),
    );
    expect(refused).toContain("attempt to write a readonly database");
  }
  expect(await storeQueries.fingerprintSeen(reading, "i", "t", "f")).toBe(true);
  reading.$client.close();
});

test("what is said of an address that does not answer has no secret of it", async () => {
  const opening = openReadOnly({ url: "http://bob:hunter2@127.0.0.1:9/?authToken=hunter3" });
  const { code, message } = await opening.then(
    () => expect.unreachable(),
    (error: GatewayError) => error,
  );
  expect([code, message]).toEqual(["store.unavailable", expect.stringMatching(/^http:..127.0.0.1:9. cannot/)]);
  expect(message).not.toContain("hunter");
});
