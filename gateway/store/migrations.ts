/** The versions of the store's schema: a migration each, by the time that drizzle's journal gives it. */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import type { Client } from "@libsql/client";
import { GatewayError } from "../errors.ts";

export const migrationsFolder = resolve(import.meta.dir, "../../migrations");

interface Journal {
  readonly entries: readonly { readonly when: number }[];
}

function knownVersions(): ReadonlySet<number> {
  const journal = JSON.parse(readFileSync(`${migrationsFolder}/meta/_journal.json`, "utf8")) as Journal;
  return new Set(journal.entries.map(({ when }) => when));
}

/** What this program brings a store up to. */
export const latestVersion = (): number => Math.max(...knownVersions());

/**
 * Undefined for a database that no gateway has written yet.
 * @throws GatewayError store.unavailable for a store of a version that this program does not know
 */
export async function schemaVersion(client: Pick<Client, "execute">): Promise<number | undefined> {
  const tables = await client.execute("select 1 from sqlite_master where name = '__drizzle_migrations'");
  if (tables.rows.length === 0) return undefined;
  const { rows } = await client.execute("select max(created_at) as version from __drizzle_migrations");
  const [row] = rows;
  if (row?.version == null) return undefined;
  const version = Number(row.version);
  if (!knownVersions().has(version)) {
    throw new GatewayError(
      "store.unavailable",
      `The store's schema is of version ${version}, which this version of Sallyport does not know.`,
      { hint: "A later version has written it: use that one." },
    );
  }
  return version;
}
