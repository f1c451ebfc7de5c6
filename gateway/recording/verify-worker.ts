/** The thread that verifies recordings. */
import { storeQueries } from "../store/queries.ts";
import { verifySession } from "./reader.ts";
import { answerReadings } from "./reading-worker.ts";
import { type ToVerify, verificationFailed } from "./verify-thread.ts";

answerReadings(verificationFailed, (db, { session, publicKey }: ToVerify) => {
  const reading = {
    getSession: (id: string) => storeQueries.getSession(db, id),
    getSeal: (id: string) => storeQueries.getSeal(db, id),
    chunkPage: (id: string, from: number) => storeQueries.chunkPage(db, id, from),
  };
  return verifySession(reading, session, publicKey);
});
