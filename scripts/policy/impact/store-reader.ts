/** Reads recordings out of a store, and changes nothing in it. */
import { existsSync } from "node:fs";
import { createClient } from "@libsql/client";
import { and, asc, eq, gt, gte, isNull, lte, or, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/libsql";
import type { Database } from "../../../gateway/store/database.ts";
import { storeQueries } from "../../../gateway/store/queries.ts";
import { seals, sessions } from "../../../gateway/store/schema.ts";
import type { ReadCalls } from "./recorded-lines.ts";

export interface StoreLocation {
  /** file:<path>, libsql:… or http(s):… */
  readonly url: string;
  readonly authToken?: string | undefined;
}

export interface StoreReader extends ReadCalls {
  /** How much there is to read: sessions, and commands as the gateway counted them. */
  size(sinceMs: number): Promise<{ readonly sessions: number; readonly commands: number }>;
  /** Ids of the sessions that were open at `sinceMs` or later, oldest first. */
  sessionIds(sinceMs: number): AsyncGenerator<string>;
  /** Sealed sessions that are no longer in the store. */
  missing(): Promise<number>;
  close(): void;
}

const pageRows = 500;

/** @throws Error where there is no such store */
export async function openStoreReader({ url, authToken }: StoreLocation): Promise<StoreReader> {
  const isFile = url.startsWith("file:");
  if (isFile && !existsSync(url.slice("file:".length))) throw new Error(`no store at ${url}`);
  const client = createClient({ url, ...(authToken !== undefined && { authToken }) });
  if (isFile) {
    await client.execute("pragma busy_timeout = 5000");
    await client.execute("pragma query_only = on");
  }
  const db: Database = drizzle(client);
  const opensAt = Date.now();
  const wanted = (sinceMs: number) =>
    and(lte(sessions.openedAt, opensAt), or(isNull(sessions.closedAt), gte(sessions.closedAt, sinceMs)));
  return {
    chunkPage: (session, from) => storeQueries.chunkPage(db, session, from),
    getSession: (id) => storeQueries.getSession(db, id),
    getSeal: (session) => storeQueries.getSeal(db, session),
    async size(sinceMs) {
      const [row] = await db
        .select({ sessions: sql<number>`count(*)`, commands: sql<number>`coalesce(sum(${sessions.commands}), 0)` })
        .from(sessions)
        .where(wanted(sinceMs));
      return row ?? { sessions: 0, commands: 0 };
    },
    async *sessionIds(sinceMs) {
      let last: { id: string; openedAt: number } | undefined;
      for (;;) {
        const after =
          last &&
          or(gt(sessions.openedAt, last.openedAt), and(eq(sessions.openedAt, last.openedAt), gt(sessions.id, last.id)));
        const page = await db
          .select({ id: sessions.id, openedAt: sessions.openedAt })
          .from(sessions)
          .where(and(wanted(sinceMs), after))
          .orderBy(asc(sessions.openedAt), asc(sessions.id))
          .limit(pageRows);
        for (const { id } of page) yield id;
        last = page.at(-1);
        if (last === undefined) return;
      }
    },
    async missing() {
      const [row] = await db
        .select({ count: sql<number>`count(*)` })
        .from(seals)
        .where(sql`${seals.session} not in (select id from sessions)`);
      return row?.count ?? 0;
    },
    close: () => client.close(),
  };
}
