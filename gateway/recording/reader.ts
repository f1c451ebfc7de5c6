/** Reads a session's events back, page by page, and checks them against their chain. */

import { extend, genesis } from "./chain.ts";
import { linesOf } from "./chunk.ts";
import type { RecordedEvent } from "./events.ts";
import { listingProblem, sealProblem, summaryProblem } from "./seal.ts";
import { SessionSummary } from "./summary.ts";
import type { StoreCalls } from "./writer.ts";

type ReadCalls = Pick<StoreCalls, "chunkPage">;
type VerifyCalls = Pick<StoreCalls, "chunkPage" | "getSession" | "getSeal">;

/** The lines of a session in order, a chunk's at a time, from event number `from` (1 is the first). */
export async function* chunkLines(
  store: ReadCalls,
  session: string,
  from = 1,
): AsyncGenerator<{ first: number; lines: readonly string[] }> {
  for (let next = from; ; ) {
    const page = await store.chunkPage(session, next);
    if (page.length === 0) return;
    for (const chunk of page) {
      const lines = linesOf(chunk);
      // Else what comes twice is read for ever.
      if (chunk.last < next) throw new Error("its chunk comes again");
      const passed = Math.max(0, next - chunk.first);
      yield { first: chunk.first + passed, lines: passed > 0 ? lines.slice(passed) : lines };
      next = chunk.last + 1;
    }
  }
}

/** One by one. */
export async function* eventLines(
  store: ReadCalls,
  session: string,
  from = 1,
): AsyncGenerator<{ n: number; line: string }> {
  for await (const { first, lines } of chunkLines(store, session, from)) {
    let n = first;
    for (const line of lines) yield { n: n++, line };
  }
}

export async function* readEvents(store: ReadCalls, session: string, from = 1): AsyncGenerator<RecordedEvent> {
  for await (const { line } of eventLines(store, session, from)) yield JSON.parse(line) as RecordedEvent;
}

export interface SessionCheck {
  readonly ok: boolean;
  readonly events: number;
  readonly problem?: string;
}

/**
 * Recomputes the chain of one session and holds it against its seal, the seal's place in the chain over sessions and
 * its signature. A session that is still open has no seal: it is held against the head in the same store, which whoever
 * can write the store can change too.
 * @param publicKey SPKI, PEM; without it signatures are not looked at
 */
export async function verifySession(store: VerifyCalls, session: string, publicKey?: string): Promise<SessionCheck> {
  // Its seal first: what has none then, and is not closed now, is judged as the open session that it was.
  const sealed = await store.getSeal(session);
  const row = await store.getSession(session);
  if (row === undefined) return { ok: false, events: 0, problem: "the session is not in the store" };
  const isOpen = row.closedAt === null && sealed === undefined;
  let head = genesis(session);
  let events = 0;
  let first: RecordedEvent | undefined;
  let last = "";
  const summary = new SessionSummary();
  const failed = (problem: string): SessionCheck => ({ ok: false, events, problem });
  try {
    for await (const { n, line } of eventLines(store, session)) {
      // An open session goes on while it is read.
      if (isOpen && events === row.events) break;
      events += 1;
      if (n !== events) return failed(`event ${events} is missing`);
      first ??= JSON.parse(line) as RecordedEvent;
      head = extend(head, line);
      summary.take(line);
      last = line;
    }
  } catch (error) {
    return { ok: false, events, problem: `event ${events + 1} cannot be read: ${(error as Error).message}` };
  }
  if (events !== row.events) return failed(`${row.events} events were recorded, ${events} are there`);
  if (!head.equals(Buffer.from(row.head))) return failed("an event was changed: the chain does not lead to its head");
  const found = sealed ?? (isOpen ? undefined : await store.getSeal(session));
  const problem =
    listingProblem(row, first) ??
    summaryProblem(row, summary, isOpen ? undefined : (JSON.parse(last) as RecordedEvent)) ??
    (isOpen ? undefined : sealProblem(found, session, events, head, publicKey));
  return problem === undefined ? { ok: true, events } : failed(problem);
}
