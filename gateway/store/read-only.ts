/**
 * Opens a store for reading beside whoever writes it, or after they were killed. A file is opened by bun:sqlite, which
 * can be told to change nothing: libSQL's own driver knows no such mode, and may bring a file up to date on closing it.
 */
import { Database as ReadOnlyFile, type SQLQueryBindings } from "bun:sqlite";
import { accessSync, constants, existsSync } from "node:fs";
import { dirname } from "node:path";
import type { Client, InStatement, ResultSet, Row } from "@libsql/client";
import { drizzle } from "drizzle-orm/libsql";
import { GatewayError } from "../errors.ts";
import { clientOf, type Database } from "./database.ts";
import { filePath, requireStoreFile } from "./file-path.ts";
import { schemaVersion } from "./migrations.ts";

export interface StoreLocation {
  /** file:<path>, libsql:… or http(s):… */
  readonly url: string;
  readonly authToken?: string | undefined;
}

/** @throws GatewayError store.unavailable where there is no store, or one of a version that is not known */
export async function openReadOnly(location: StoreLocation): Promise<Database> {
  const client = connect(location);
  try {
    if ((await versionOf(location, client)) === undefined) throw unavailable(location, "is not a store of Sallyport's");
  } catch (cause) {
    client.close();
    throw cause;
  }
  return drizzle(client);
}

async function versionOf(location: StoreLocation, client: Client): Promise<number | undefined> {
  try {
    return await schemaVersion(client);
  } catch (cause) {
    throw cause instanceof GatewayError ? cause : unavailable(location, `cannot be read: ${wordsOf(cause)}`, cause);
  }
}

/**
 * Whether a gateway could use it: one that is not there yet can be made, one that is there is of a known version.
 * @throws GatewayError store.unavailable
 */
export async function checkStore(location: StoreLocation): Promise<void> {
  const path = filePath(location.url);
  if (path !== undefined) {
    if (!existsSync(path)) return checkFolder(location, dirname(path));
    checkWritable(location, path);
  }
  const client = connect(location);
  try {
    await versionOf(location, client);
  } finally {
    client.close();
  }
}

function checkFolder(location: StoreLocation, folder: string): void {
  if (!existsSync(folder) && folder !== dirname(folder)) return checkFolder(location, dirname(folder));
  try {
    accessSync(folder, constants.W_OK);
  } catch (cause) {
    throw unavailable(location, `cannot be made in ${folder}: ${wordsOf(cause)}`, cause);
  }
}

/** The file, and its folder, where its log and its journal are made. */
function checkWritable(location: StoreLocation, path: string): void {
  for (const place of [path, dirname(path)]) {
    try {
      accessSync(place, constants.W_OK);
    } catch (cause) {
      throw unavailable(location, `cannot be written: ${wordsOf(cause)}`, cause);
    }
  }
}

const wordsOf = (error: unknown) => (error as Error).message;
const unavailable = ({ url }: StoreLocation, what: string, cause?: unknown) =>
  new GatewayError("store.unavailable", `${withoutSecrets(url)} ${what}`, { cause });

/** An address on a command line may have a user or a token in it. */
function withoutSecrets(url: string): string {
  return filePath(url) === undefined ? url.replace(/\?.*$/s, "").replace(/\/\/[^/]*@/, "//") : url;
}

function connect(location: StoreLocation): Client {
  const path = filePath(location.url);
  if (path === undefined) return clientOf(location);
  requireStoreFile(path);
  try {
    return fileClient(new ReadOnlyFile(path, { readonly: true }));
  } catch (cause) {
    throw unavailable(location, `cannot be opened: ${wordsOf(cause)}`, cause);
  }
}

/** The part of libSQL's client that reading takes, over a file that nothing can be written to. */
function fileClient(file: ReadOnlyFile): Client {
  file.run("pragma busy_timeout = 5000");
  const query = (statement: InStatement): ResultSet => {
    const { sql, args = [] } = typeof statement === "string" ? { sql: statement } : statement;
    const prepared = file.prepare(sql);
    try {
      const values = prepared.values(...(args as SQLQueryBindings[])) as unknown[][];
      const columns = prepared.columnNames;
      const rows = values.map((row) =>
        Object.assign([...row], Object.fromEntries(columns.map((name, at) => [name, row[at]]))),
      );
      return {
        columns,
        columnTypes: [],
        rows: rows as unknown as Row[],
        rowsAffected: 0,
        lastInsertRowid: undefined,
        toJSON: () => rows,
      };
    } finally {
      prepared.finalize();
    }
  };
  const reading = {
    execute: async (statement: InStatement) => query(statement),
    /** As of one moment. */
    batch: async (statements: InStatement[]) => file.transaction(() => statements.map(query))(),
    close: () => file.close(),
  };
  return reading as unknown as Client;
}
