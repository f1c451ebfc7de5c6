/** The lines of one recorded session up to what its row in the store says, held against chain and seal while they go by. */
import { extend, genesis } from "../../../gateway/recording/chain.ts";
import type { RecordedEvent } from "../../../gateway/recording/events.ts";
import { eventLines } from "../../../gateway/recording/reader.ts";
import { listingProblem, sealProblem } from "../../../gateway/recording/seal.ts";
import type { StoreCalls } from "../../../gateway/recording/writer.ts";

export type ReadCalls = Pick<StoreCalls, "chunkPage" | "getSession" | "getSeal">;

export interface ReadState {
  readonly open: boolean;
  /** What cannot be read, or is not what was recorded. */
  readonly problem: string | undefined;
}

/** Gives each line to `take`, which may have got lines of a session that turns out to be broken. */
export async function readLines(store: ReadCalls, session: string, take: (line: string) => void): Promise<ReadState> {
  let row = await store.getSession(session);
  const found = await store.getSeal(session);
  // It ended between the two questions.
  if (row?.closedAt === null && found !== undefined) row = await store.getSession(session);
  if (row === undefined) return { open: false, problem: "the session is not in the store" };
  const open = row.closedAt === null && found === undefined;
  const failed = (problem: string): ReadState => ({ open, problem });
  let head = genesis(session);
  let events = 0;
  let first: RecordedEvent | undefined;
  try {
    for await (const { n, line } of eventLines(store, session)) {
      // An open session goes on while it is read.
      if (open && events === row.events) break;
      events += 1;
      if (n !== events) return failed(`event ${events} is missing`);
      first ??= JSON.parse(line) as RecordedEvent;
      head = extend(head, line);
      take(line);
    }
  } catch (error) {
    return failed(`event ${events + 1} cannot be read: ${(error as Error).message}`);
  }
  if (events !== row.events) return failed(`${row.events} events were recorded, ${events} are there`);
  if (!head.equals(Buffer.from(row.head))) return failed("an event was changed: the chain does not lead to its head");
  const problem =
    listingProblem(row, first) ?? (open ? undefined : sealProblem(found, session, events, head, undefined));
  return { open, problem };
}
