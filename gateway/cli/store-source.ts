/** Recordings read from their store, for the operator at the machine: no gateway need run, and nothing is written. */
import { createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { pageOf, pageView } from "../api/views.ts";
import { openRecordings } from "../recording/open-recordings.ts";
import { eventLines, verifySession } from "../recording/reader.ts";
import { sealChainProblem } from "../recording/seal.ts";
import { parseStatementQuery, searchSessions } from "../recording/search.ts";
import { readingOf, storeQueries } from "../store/queries.ts";
import { ClientError, exitCodes } from "./command.ts";
import type { Recordings } from "./recordings.ts";
import { storeLocation } from "./store-location.ts";
import { whole } from "./whole.ts";

export interface StoreSource {
  /** As `--store` names it: a file, an address, or a gateway's configuration. */
  readonly store: string;
  /** PEM file of the key that seals are signed with, or of its public half. */
  readonly key?: string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** @throws GatewayError store.unavailable or config.invalid */
export async function openStore({ store, key, environment }: StoreSource): Promise<Recordings> {
  const { signingKey, ...location } = storeLocation(store, environment);
  const publicKey = readPublicKey(key ?? signingKey);
  const db = await openRecordings(location);
  const calls = readingOf(db);
  const noSession = () => new ClientError(exitCodes.failed, "api.not_found", "There is no such session in this store.");
  return {
    async list({ since, until, text, ...filter }) {
      const time = (given: string | undefined) => (given === undefined ? undefined : Date.parse(given));
      const query = { ...filter, since: time(since), until: time(until) };
      if (text !== undefined) return pageView(await searchSessions(calls, query, parseStatementQuery(text)));
      return pageView(pageOf(await calls.listSessions(query), filter.limit));
    },
    async *lines(id) {
      const session = await calls.getSession(id);
      if (session === undefined) throw noSession();
      yield* whole(linesOf(calls, id), session.events);
    },
    async verify(id, isNamed = false) {
      // A session that was taken out leaves its seal.
      const isThere = isNamed || ((await calls.getSession(id)) ?? (await calls.getSeal(id)));
      if (!isThere) throw noSession();
      return { ...(await verifySession(calls, id, publicKey)), signatureChecked: publicKey !== undefined };
    },
    missing: () => storeQueries.sessionsMissing(db),
    problems: async () => ({
      "the list": await storeQueries.listProblem(db),
      "the seals": await sealChainProblem((n) => storeQueries.sealPage(db, n), publicKey),
    }),
    close: async () => db.$client.close(),
  };
}

async function* linesOf(calls: Parameters<typeof eventLines>[0], id: string): AsyncGenerator<string> {
  for await (const { line } of eventLines(calls, id)) yield line;
}

function readPublicKey(path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  try {
    return createPublicKey(readFileSync(path)).export({ type: "spki", format: "pem" }).toString();
  } catch (cause) {
    const hint = "Give another by --key: PEM, of the signing key or of its public half.";
    throw new ClientError(
      exitCodes.failed,
      "config.invalid",
      `the key ${path} cannot be read: ${(cause as Error).message}`,
      hint,
    );
  }
}
