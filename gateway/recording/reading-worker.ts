/** A thread that reads the store by a connection of its own, and writes nothing: what answers `ReadingThread`. */
import { GatewayError } from "../errors.ts";
import { type Database, openBeside } from "../store/database.ts";
import type { FromReadingWorker, ToReadingWorker } from "./reading-thread.ts";

declare const self: Worker;

/** @param failed what is said of an error that is none of the gateway's own */
export function answerReadings<Asked, Answer>(
  failed: string,
  read: (db: Database, asked: Asked) => Promise<Answer>,
): void {
  let opened: Promise<Database> | undefined;
  /** One at a time: each has its time from when it begins. */
  let queue: Promise<void> = Promise.resolve();
  const post = (message: FromReadingWorker<Answer>) => postMessage(message);

  async function answer({ call, store, asked }: ToReadingWorker<Asked>): Promise<void> {
    try {
      // Once; a store that could not be opened is tried again by the next.
      opened ??= openBeside(store).catch((error) => {
        opened = undefined;
        throw error;
      });
      post({ call, answer: await read(await opened, asked) });
    } catch (error) {
      const known = error instanceof GatewayError ? error : undefined;
      const { code = "store.unavailable", message = failed, hint } = known ?? {};
      post({ call, refused: { code, message, hint } });
    }
  }

  self.onmessage = ({ data }: MessageEvent<ToReadingWorker<Asked>>) => {
    queue = queue.then(() => answer(data));
  };
}
