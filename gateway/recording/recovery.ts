/**
 * What a journal has and its store lacks: the end of recordings whose gateway was killed, or lost its power. A gateway
 * takes it into the store when it starts; who only reads is shown the store as it will be then.
 */
import { readFileSync, rmSync } from "node:fs";
import { inArray } from "drizzle-orm";
import { GatewayError } from "../errors.ts";
import type { Database } from "../store/database.ts";
import { journalPaths } from "../store/file-path.ts";
import { sessions } from "../store/schema.ts";
import type { Written } from "./chunk.ts";
import type { SessionOpened } from "./events.ts";
import { type JournalRecord, recordsOf } from "./journal.ts";
import { parseLine } from "./line.ts";
import { OpenSession } from "./open-session.ts";

/** Events of one session: the first one's number, and all as JSON. */
interface Part {
  first: number;
  events: string[];
  /** Of the journal's turn that had the latest. */
  generation: number;
}

/**
 * @param path of the store
 * @returns undefined where it has no journal, as after an orderly end
 * @throws GatewayError store.unavailable where one cannot be read, or has gaps
 */
export function readJournal(path: string): ReadonlyMap<string, Part> | undefined {
  const files = journalPaths(path).flatMap((file) => contentsOf(file) ?? []);
  if (files.length === 0) return undefined;
  const parts = new Map<string, Part>();
  for (const { generation, lines } of files.flatMap(recordsOf).sort(inOrder)) {
    for (const line of lines.split("\n")) {
      if (line === "") continue;
      const { session, event, json } = parseLine(line);
      const part = parts.get(session);
      const expected = part === undefined ? event : part.first + part.events.length;
      if (part === undefined) {
        parts.set(session, { first: event, events: [json], generation });
      } else if (event === expected) {
        part.events.push(json);
        part.generation = generation;
      } else if (generation !== part.generation) {
        // A power cut while a file was begun again may leave the beginning of what it held: the store has that.
        Object.assign(part, { first: event, events: [json], generation });
      } else {
        throw gap(path, session, expected, event);
      }
    }
  }
  return parts;
}

const inOrder = (a: JournalRecord, b: JournalRecord) => a.generation - b.generation || a.sequence - b.sequence;

function contentsOf(file: string): Buffer | undefined {
  try {
    return readFileSync(file);
  } catch (cause) {
    if ((cause as { code?: string }).code === "ENOENT") return undefined;
    throw new GatewayError("store.unavailable", `${file}, which goes with the store, cannot be read.`, { cause });
  }
}

/** The store has, on disk, all that it held. */
export function removeJournal(path: string): void {
  for (const file of journalPaths(path)) rmSync(file, { force: true });
}

const idsPerQuery = 500;

/**
 * What has to be written so that the store has all that its journal has.
 * @param db undefined: it has nothing yet
 * @returns undefined where there is no journal
 * @throws GatewayError store.unavailable where the journal begins behind the store's end
 */
export async function lackingOf(db: Database | undefined, path: string): Promise<Written[] | undefined> {
  const journal = readJournal(path);
  if (journal === undefined) return undefined;
  const lacking: Written[] = [];
  const ids = [...journal.keys()];
  for (let at = 0; at < ids.length; at += idsPerQuery) {
    const page = ids.slice(at, at + idsPerQuery);
    const rows = (await db?.select().from(sessions).where(inArray(sessions.id, page))) ?? [];
    const stored = new Map(rows.map((row) => [row.id, row]));
    for (const id of page) {
      const written = continued(path, id, journal.get(id) as Part, stored.get(id));
      if (written !== undefined) lacking.push(written);
    }
  }
  return lacking;
}

function continued(
  path: string,
  session: string,
  part: Part,
  stored: typeof sessions.$inferSelect | undefined,
): Written | undefined {
  const has = stored?.events ?? 0;
  if (stored !== undefined && stored.closedAt !== null) return requireNothingBehind(path, session, part, has);
  const events = part.events.slice(Math.max(0, has + 1 - part.first));
  const [first] = events;
  if (first === undefined) return undefined;
  if (part.first > has + 1) throw gap(path, session, has + 1, part.first);
  const open =
    stored === undefined ? OpenSession.begun(JSON.parse(first) as SessionOpened) : OpenSession.stored(stored);
  open.addEvents(events);
  return open.written();
}

/** The end of a session that is sealed is its last event: else the journal was away when a gateway sealed it. */
function requireNothingBehind(path: string, session: string, { first, events }: Part, end: number): undefined {
  const behind = events.findIndex((json, at) => first + at > end || (first + at === end && !isEnd(json)));
  if (behind >= 0) throw gap(path, session, undefined, first + behind);
}

const isEnd = (json: string) => json.startsWith('{"type":"session.closed"');

/** @param expected undefined: none, as the session is sealed */
function gap(path: string, session: string, expected: number | undefined, found: number): GatewayError {
  const [one, other] = journalPaths(path);
  const where = expected === undefined ? "where the session is sealed" : `where event ${expected} is missing`;
  return new GatewayError(
    "store.unavailable",
    `The files ${one} and ${other} do not go on where the store ends: of session ${session} event ${found} comes ${where}.`,
    { hint: "Put them and the store back as they were together; or, where the store is another one, move them away." },
  );
}
