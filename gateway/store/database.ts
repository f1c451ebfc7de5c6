/** Opens the store and brings it up to date. Only the store's worker holds a handle that writes. */
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, readSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { type Client, createClient } from "@libsql/client";
import { drizzle, type LibSQLDatabase } from "drizzle-orm/libsql";
import { migrate } from "drizzle-orm/libsql/migrator";
import { GatewayError } from "../errors.ts";
import { filePath } from "./file-path.ts";
import { migrationsFolder, schemaVersion } from "./migrations.ts";

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
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    makePrivate(path);
  }
  const client = createClient({
    url: options.url,
    ...(options.authToken !== undefined && { authToken: options.authToken }),
  });
  if (path !== undefined) await applyPragmas((pragma) => client.execute(pragma), options.durability);
  const database = drizzle(client);
  await schemaVersion(client);
  await migrate(database, { migrationsFolder });
  return database;
}

const magic = "SQLite format 3\0";

/** A store that was made by anyone else, or is new. What is no store keeps its mode. */
function makePrivate(path: string): void {
  if (!existsSync(path)) return closeSync(openSync(path, "a", 0o600));
  const isFile = statSync(path).isFile();
  const start = isFile ? startOf(path) : "";
  if (!isFile || !(start === "" || start === magic)) {
    throw new GatewayError(
      "store.unavailable",
      `${path} exists and is no store: ${isFile ? "no SQLite database" : "no file"}.`,
      {
        hint: "Give store.url a path of its own; the gateway makes the file.",
      },
    );
  }
  chmodSync(path, 0o600);
}

function startOf(path: string): string {
  const file = openSync(path, "r");
  try {
    const start = Buffer.alloc(magic.length);
    return start.toString("latin1", 0, readSync(file, start));
  } finally {
    closeSync(file);
  }
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
