/** The thread that searches recordings. */
import { readingOf } from "../store/queries.ts";
import { answerReadings } from "./reading-worker.ts";
import { parseStatementQuery, searchSessions } from "./search.ts";
import { type Sought, searchFailed } from "./search-thread.ts";

answerReadings(searchFailed, (db, { filter, text, budgetMs }: Sought) => {
  const query = parseStatementQuery(text);
  const until = performance.now() + budgetMs;
  return searchSessions(readingOf(db), filter, query, () => performance.now() < until);
});
