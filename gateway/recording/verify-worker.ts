/** The thread that verifies recordings. */
import { readingOf } from "../store/queries.ts";
import { verifySession } from "./reader.ts";
import { answerReadings } from "./reading-worker.ts";
import { type ToVerify, verificationFailed } from "./verify-thread.ts";

answerReadings(verificationFailed, (db, { session, publicKey }: ToVerify) =>
  verifySession(readingOf(db), session, publicKey),
);
