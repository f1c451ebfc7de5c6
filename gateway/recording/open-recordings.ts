/** Opens a store to read its recordings, with what a killed gateway's journal has of them; nothing is written. */
import { existsSync } from "node:fs";
import type { Client } from "@libsql/client";
import type { Database } from "../store/database.ts";
import { filePath, journalPaths } from "../store/file-path.ts";
import { isLocked } from "../store/lock.ts";
import { checkStore, openReadOnly, type StoreLocation } from "../store/read-only.ts";
import type { Written } from "./chunk.ts";
import { lackingOf } from "./recovery.ts";

/**
 * Beside a gateway that runs, its store alone: what is in the journal gets there within moments.
 * @throws GatewayError store.unavailable
 */
export async function openRecordings(location: StoreLocation): Promise<Database> {
  const db = await openReadOnly(location);
  try {
    await layOver(db.$client, await lackingAt(location, db));
  } catch (cause) {
    db.$client.close();
    throw cause;
  }
  return db;
}

/**
 * Whether a gateway could use it: one that is not there yet can be made, one that is there is of a known version, and
 * the journal that one left fits it.
 * @throws GatewayError store.unavailable
 */
export async function checkRecordings(location: StoreLocation): Promise<void> {
  await checkStore(location);
  const path = filePath(location.url);
  if (path === undefined || !journalPaths(path).some(existsSync)) return;
  const db = existsSync(path) ? await openReadOnly(location) : undefined;
  try {
    await lackingAt(location, db);
  } finally {
    db?.$client.close();
  }
}

async function lackingAt({ url }: StoreLocation, db: Database | undefined): Promise<readonly Written[]> {
  const path = filePath(url);
  return path === undefined || isLocked(path) ? [] : ((await lackingOf(db, path)) ?? []);
}

/**
 * Names in SQL mean temporary tables and views before those of the file. A gateway that starts meanwhile takes the same
 * events into the file: from then on they are read there.
 */
async function layOver(client: Client, lacking: readonly Written[]): Promise<void> {
  if (lacking.length === 0) return;
  const isAhead = (session: string) =>
    `not exists (select 1 from main.sessions s where s.id = ${session} and s.events >= o.events)`;
  await client.execute("create temp table ahead_sessions as select * from main.sessions where false");
  await client.execute(
    "create temp table ahead_chunks as select *, 0 as events from main.recording_chunks where false",
  );
  for (const { chunk, row, events, head, commands, verdicts } of lacking) {
    const { session, first, last, codec, data } = chunk;
    if (row === undefined) {
      await client.execute({
        sql: "insert into ahead_sessions select * from main.sessions where id = ?",
        args: [session],
      });
    } else {
      const { id, gateway, issuer, subject, email, kind, target, openedAt } = row;
      await client.execute({
        sql: `insert into ahead_sessions (id, gateway, issuer, subject, email, kind, target, opened_at)
              values (?, ?, ?, ?, ?, ?, ?, ?)`,
        args: [id, gateway, issuer, subject, email, kind, target, openedAt],
      });
    }
    await client.execute({
      sql: "update ahead_sessions set events = ?, head = ?, commands = ?, verdicts = ? where id = ?",
      args: [events, head, commands, verdicts, session],
    });
    await client.execute({
      sql: "insert into ahead_chunks (session, first, last, codec, data, events) values (?, ?, ?, ?, ?, ?)",
      args: [session, first, last, codec, data, events],
    });
  }
  await client.execute("create unique index temp.ahead_sessions_id on ahead_sessions (id)");
  await client.execute("create unique index temp.ahead_chunks_first on ahead_chunks (session, first)");
  await client.execute(`create temp view sessions as
    select * from main.sessions m where not exists
      (select 1 from ahead_sessions o where o.id = m.id and o.events > m.events)
    union all select o.* from ahead_sessions o where ${isAhead("o.id")}`);
  await client.execute(`create temp view recording_chunks as
    select session, first, last, codec, data from main.recording_chunks
    union all select session, first, last, codec, data from ahead_chunks o where ${isAhead("o.session")}`);
}
