/** Reads recordings out of a store, many sessions a query, and changes nothing in it. */
import { and, asc, eq, gt, gte, inArray, isNull, lte, or, sql } from "drizzle-orm";
import { alias } from "drizzle-orm/sqlite-core";
import { openRecordings } from "../../../gateway/recording/open-recordings.ts";
import type { SealFound } from "../../../gateway/recording/seal.ts";
import { storeQueries } from "../../../gateway/store/queries.ts";
import type { StoreLocation } from "../../../gateway/store/read-only.ts";
import { seals, sessions } from "../../../gateway/store/schema.ts";

export interface Listed {
  readonly id: string;
  /** Issuer, subject and target: such sessions have decisions in common. */
  readonly alike: string;
}

export interface Found {
  readonly row: typeof sessions.$inferSelect;
  readonly seal: SealFound | undefined;
}

export interface Chunk {
  readonly session: string;
  /** Numbers of events. */
  readonly first: number;
  readonly last: number;
  /** Lines of JSON, each ended by a line feed; zstd where `codec` says so. */
  readonly codec: string;
  readonly data: Uint8Array;
}

export interface StoreReader {
  /** How much there is to read: sessions, and commands as the gateway counted them. */
  size(sinceMs: number): Promise<{ readonly sessions: number; readonly commands: number }>;
  /** The sessions that were open at `sinceMs` or later, oldest first. */
  list(sinceMs: number): AsyncGenerator<Listed>;
  /** By id, as of one moment. */
  find(ids: readonly string[]): Promise<ReadonlyMap<string, Found>>;
  /** Of these sessions, by session and number. */
  chunks(ids: readonly string[]): AsyncGenerator<Chunk>;
  /** Sealed sessions that are no longer in the store. */
  missing(): Promise<number>;
  close(): void;
}

const pageRows = 500;
/** Of up to 256 KiB or so, unpacked. */
const chunkRows = 64;

/** @throws GatewayError where there is no such store */
export async function openStoreReader(location: StoreLocation): Promise<StoreReader> {
  const db = await openRecordings(location);
  const client = db.$client;
  const opensAt = Date.now();
  const wanted = (sinceMs: number) =>
    and(lte(sessions.openedAt, opensAt), or(isNull(sessions.closedAt), gte(sessions.closedAt, sinceMs)));
  const before = alias(seals, "before");
  return {
    async size(sinceMs) {
      const [row] = await db
        .select({ sessions: sql<number>`count(*)`, commands: sql<number>`coalesce(sum(${sessions.commands}), 0)` })
        .from(sessions)
        .where(wanted(sinceMs));
      return row ?? { sessions: 0, commands: 0 };
    },
    async *list(sinceMs) {
      const { id, openedAt, issuer, subject, target } = sessions;
      let last: { id: string; openedAt: number } | undefined;
      for (;;) {
        const after = last && or(gt(openedAt, last.openedAt), and(eq(openedAt, last.openedAt), gt(id, last.id)));
        const page = await db
          .select({ id, openedAt, issuer, subject, target })
          .from(sessions)
          .where(and(wanted(sinceMs), after))
          .orderBy(asc(openedAt), asc(id))
          .limit(pageRows);
        for (const row of page) yield { id: row.id, alike: `${row.issuer}\n${row.subject}\n${row.target}` };
        last = page.at(-1);
        if (last === undefined) return;
      }
    },
    async find(ids) {
      const [rows, sealed] = await db.batch([
        db
          .select()
          .from(sessions)
          .where(inArray(sessions.id, [...ids])),
        db
          .select({ seal: seals, before: before.hash })
          .from(seals)
          .leftJoin(before, eq(before.n, sql`${seals.n} - 1`))
          .where(inArray(seals.session, [...ids])),
      ]);
      const bySession = new Map(
        sealed.map(({ seal, before: hash }) => [seal.session, { seal, before: hash ?? undefined }]),
      );
      return new Map(rows.map((row) => [row.id, { row, seal: bySession.get(row.id) }]));
    },
    async *chunks(ids) {
      let [session, first] = ["", 0];
      const marks = ids.map(() => "?").join(", ");
      for (;;) {
        const { rows } = await client.execute({
          sql: `select session, first, last, codec, data from recording_chunks
                where session in (${marks}) and (session, first) > (?, ?) order by session, first limit ${chunkRows}`,
          args: [...ids, session, first],
        });
        for (const row of rows) {
          [session, first] = [String(row.session), Number(row.first)];
          const data = new Uint8Array(row.data as ArrayBuffer);
          yield { session, first, last: Number(row.last), codec: String(row.codec), data };
        }
        if (rows.length < chunkRows) return;
      }
    },
    missing: async () => (await storeQueries.sealedSessionsMissing(db)).length,
    close: () => client.close(),
  };
}
