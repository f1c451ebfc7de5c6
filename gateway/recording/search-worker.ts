/** The thread that searches recordings: it reads the store by a connection of its own, and writes nothing. */
import { GatewayError } from "../errors.ts";
import { storeQueries } from "../store/queries.ts";
import { openReadOnly } from "../store/read-only.ts";
import { parseStatementQuery, searchSessions } from "./search.ts";
import type { FromSearchWorker, ToSearchWorker } from "./search-thread.ts";

declare const self: Worker;

let opened: ReturnType<typeof openReadOnly> | undefined;
/** One search at a time: each has its time from when it begins. */
let queue: Promise<void> = Promise.resolve();

const post = (message: FromSearchWorker) => postMessage(message);

self.onmessage = ({ data }: MessageEvent<ToSearchWorker>) => {
  queue = queue.then(() => search(data));
};

async function search({ call, store, filter, text, budgetMs }: ToSearchWorker): Promise<void> {
  try {
    const query = parseStatementQuery(text);
    opened ??= openReadOnly(store);
    const db = await opened;
    const until = performance.now() + budgetMs;
    const reading = {
      listSessions: (one: typeof filter) => storeQueries.listSessions(db, one),
      chunkPage: (session: string, from: number) => storeQueries.chunkPage(db, session, from),
    };
    post({ call, found: await searchSessions(reading, filter, query, () => performance.now() < until) });
  } catch (error) {
    opened = undefined;
    const known = error instanceof GatewayError ? error : undefined;
    const { code = "store.unavailable", message = "The store could not be searched.", hint } = known ?? {};
    post({ call, refused: { code, message, hint } });
  }
}
