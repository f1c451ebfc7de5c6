/** Opens the store and brings it up to date. Only the store's worker holds a handle that writes. */
import { chmodSync, closeSync, existsSync, mkdirSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { type Client, createClient } from "@libsql/client";
import { drizzle, type LibSQLDatabase } from "drizzle-orm/libsql";
import { migrate } from "drizzle-orm/libsql/migrator";
import { filePath, requireStoreFile, requireStorePath } from "./file-path.ts";
import { latestVersion, migrationsFolder, schemaVersion } from "./migrations.ts";

/** `$client` is the driver itself, for the one statement that is worth writing by hand. */
export type Database = LibSQLDatabase & { readonly $client: Client };

export interface DatabaseOptions {
  /** file:<absolute path>, libsql:… or http(s):… */
  readonly url: string;
  readonly authToken?: string | undefined;
  readonly durability: "strict" | "group";
}

/**
 * A file's folder is made 0700 and the file 0600.
 * @throws the driver's error when it cannot be opened; GatewayError where a later version has written it
 */
export async function openDatabase(options: DatabaseOptions): Promise<Database> {
  const path = filePath(options.url);
  if (path !== undefined) {
    requireStorePath(path);
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    if (!existsSync(path)) closeSync(openSync(path, "a", 0o600));
    chmodSync(path, 0o600);
  }
  const client = clientOf(options);
  if (path !== undefined) await applyPragmas((pragma) => client.execute(pragma), options.durability);
  const database = drizzle(client);
  await schemaVersion(client);
  await migrate(database, { migrationsFolder }).catch(async (error) => {
    // Of gateways that start at once on a store that they share, another may have done it.
    if (path !== undefined || (await schemaVersion(client)) !== latestVersion()) throw error;
  });
  return database;
}

/**
 * For reading, in the process that writes it. By the same library: where another closes a file, the operating system
 * takes all of the process's locks on it away, and whoever opens the store next may take its log for nobody's.
 * @throws GatewayError store.unavailable where there is none
 */
export async function openBeside(location: Location): Promise<Database> {
  const path = filePath(location.url);
  if (path !== undefined) requireStoreFile(path);
  const client = clientOf(location);
  if (path !== undefined) {
    await client.execute("pragma query_only = on");
    await client.execute("pragma busy_timeout = 5000");
  }
  return drizzle(client);
}

type Location = Pick<DatabaseOptions, "url" | "authToken">;

export function clientOf({ url, authToken }: Location): Client {
  return createClient({ url, ...(authToken !== undefined && { authToken }) });
}

/** What each connection to a file is told before anything else. */
export async function applyPragmas(
  run: (pragma: string) => unknown,
  durability: DatabaseOptions["durability"],
): Promise<void> {
  await run("pragma journal_mode = wal");
  // FULL: a commit is on disk before it is acknowledged. NORMAL: a power cut can lose the latest commits.
  await run(`pragma synchronous = ${durability === "strict" ? "full" : "normal"}`);
  await run("pragma busy_timeout = 5000");
}
