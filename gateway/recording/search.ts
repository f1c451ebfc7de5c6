/**
 * Full-text search over what sessions ran: the recordings themselves are read, the latest session first, so that there
 * is no index for a secret to stay in, none to write before a command may go on, and none that a killed gateway left
 * behind. What a statement says is its recorded text and its parameters.
 */
import { GatewayError } from "../errors.ts";
import type { SessionFilter, storeQueries } from "../store/queries.ts";
import type { Intent } from "./events.ts";
import { eventLines } from "./reader.ts";
import type { StoreCalls } from "./writer.ts";

export interface StatementQuery {
  /** Whether a line of a recording, in lower case, is worth a closer look. */
  mayMatch(lowered: string): boolean;
  matches(statement: string): boolean;
}

const word = /[\p{L}\p{N}_]+/gu;
const term = /"([^"]+)"|([\p{L}\p{N}_]+)(\*)?/gu;

const spaced = (text: string) => text.toLowerCase().replace(/\s+/g, " ");

/**
 * @param text words that one statement must have, all of them and in any order; `"…"` is a phrase as it is written,
 * `word*` any word that begins so. Case does not count.
 * @throws GatewayError api.invalid for a text with nothing to look for
 */
export function parseStatementQuery(text: string): StatementQuery {
  const phrases: string[] = [];
  const words: string[] = [];
  const beginnings: string[] = [];
  for (const [, phrase, one = "", star] of text.matchAll(term)) {
    if (phrase !== undefined) phrases.push(spaced(phrase).trim());
    else (star ? beginnings : words).push(one.toLowerCase());
  }
  const sought = [...phrases, ...words, ...beginnings];
  if (sought.length === 0 || sought.includes("")) {
    throw new GatewayError("api.invalid", "The text has no word to look for.", {
      hint: 'Give words that a statement has, a "phrase", or the beginning of a word as begin*.',
    });
  }
  // In a line of JSON the words of a phrase are as they are; what is between them may be written otherwise.
  const inLine = [...words, ...beginnings, ...phrases.flatMap((phrase) => phrase.match(word) ?? [])];
  return {
    mayMatch: (lowered) => inLine.every((one) => lowered.includes(one)),
    matches(statement) {
      const whole = spaced(statement);
      if (!phrases.every((phrase) => whole.includes(phrase))) return false;
      const has = new Set(whole.match(word));
      if (!words.every((one) => has.has(one))) return false;
      return beginnings.every((beginning) => [...has].some((one) => one.startsWith(beginning)));
    },
  };
}

type ReadCalls = Pick<StoreCalls, "listSessions" | "chunkPage">;
type SessionRow = Awaited<ReturnType<typeof storeQueries.listSessions>>[number];

export interface Found {
  readonly sessions: SessionRow[];
  /** `before` of where to go on, or null where all were looked at. */
  readonly next: string | null;
}

/** Sessions whose rows are read at once. */
const sessionPage = 100;

/**
 * The sessions that fit the filter and ran a statement that fits the query, at most `filter.limit`.
 * @param goOn asked after each session: false ends the search there
 */
export async function searchSessions(
  store: ReadCalls,
  filter: SessionFilter,
  query: StatementQuery,
  goOn: () => boolean = () => true,
): Promise<Found> {
  const sessions: SessionRow[] = [];
  let { before } = filter;
  for (;;) {
    const page = await store.listSessions({ ...filter, before, limit: sessionPage });
    for (const session of page) {
      if (await ran(store, session.id, query)) sessions.push(session);
      before = session.id;
      if (sessions.length === filter.limit || !goOn()) return { sessions, next: session.id };
    }
    if (page.length < sessionPage) return { sessions, next: null };
  }
}

/** @throws GatewayError recording.failed where it cannot be read: what is sought may be in it */
async function ran(store: ReadCalls, session: string, query: StatementQuery): Promise<boolean> {
  try {
    return await isIn(store, session, query);
  } catch (cause) {
    throw new GatewayError(
      "recording.failed",
      `The recording of session ${session} cannot be searched: ${(cause as Error).message}.`,
      { cause, hint: "`sallyport verify` says what is wrong with it; search before or after it." },
    );
  }
}

async function isIn(store: ReadCalls, session: string, query: StatementQuery): Promise<boolean> {
  for await (const { line } of eventLines(store, session)) {
    if (!line.startsWith('{"type":"intent"') || !query.mayMatch(line.toLowerCase())) continue;
    const { text, params } = JSON.parse(line) as Intent;
    // No phrase reaches from one into the next.
    if (query.matches([text, ...params].join("\0"))) return true;
  }
  return false;
}
