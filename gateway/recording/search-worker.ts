/** The thread that searches recordings: it reads the store by a connection of its own, and writes nothing. */
import { GatewayError } from "../errors.ts";
import { openBeside } from "../store/database.ts";
import { storeQueries } from "../store/queries.ts";
import type { StoreLocation } from "../store/read-only.ts";
import { parseStatementQuery, searchSessions } from "./search.ts";
import type { FromSearchWorker, ToSearchWorker } from "./search-thread.ts";

declare const self: Worker;

let opened: ReturnType<typeof openBeside> | undefined;
/** One search at a time: each has its time from when it begins. */
let queue: Promise<void> = Promise.resolve();

const post = (message: FromSearchWorker) => postMessage(message);

self.onmessage = ({ data }: MessageEvent<ToSearchWorker>) => {
  queue = queue.then(() => search(data));
};

/** Once; a store that could not be opened is tried again by the next search. */
function open(store: StoreLocation): ReturnType<typeof openBeside> {
  opened ??= openBeside(store).catch((error) => {
    opened = undefined;
    throw error;
  });
  return opened;
}

async function search({ call, store, filter, text, budgetMs }: ToSearchWorker): Promise<void> {
  try {
    const query = parseStatementQuery(text);
    const db = await open(store);
    const until = performance.now() + budgetMs;
    const reading = {
      listSessions: (one: typeof filter) => storeQueries.listSessions(db, one),
      chunkPage: (session: string, from: number) => storeQueries.chunkPage(db, session, from),
    };
    post({ call, found: await searchSessions(reading, filter, query, () => performance.now() < until) });
  } catch (error) {
    const known = error instanceof GatewayError ? error : undefined;
    const { code = "store.unavailable", message = "The store could not be searched.", hint } = known ?? {};
    post({ call, refused: { code, message, hint } });
  }
}
