/** The thread that searches recordings. */
import { storeQueries } from "../store/queries.ts";
import { answerReadings } from "./reading-worker.ts";
import { parseStatementQuery, searchSessions } from "./search.ts";
import { type Sought, searchFailed } from "./search-thread.ts";

answerReadings(searchFailed, (db, { filter, text, budgetMs }: Sought) => {
  const query = parseStatementQuery(text);
  const until = performance.now() + budgetMs;
  const reading = {
    listSessions: (one: typeof filter) => storeQueries.listSessions(db, one),
    chunkPage: (session: string, from: number) => storeQueries.chunkPage(db, session, from),
  };
  return searchSessions(reading, filter, query, () => performance.now() < until);
});
