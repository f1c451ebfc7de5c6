/** Shares the sessions of a store out to threads, a few at a time, and adds up what they found. */
import { availableParallelism } from "node:os";
import type { Report, Setup } from "./judge-sessions.ts";
import type { FromWorker, ToWorker } from "./judge-worker.ts";
import { openStoreReader } from "./store-reader.ts";
import { emptyTally, mergeTally, type Tally } from "./tally.ts";

/** Sessions that a thread is given at a time; its tallies come back with the last of them. */
const sessionsAtOnce = 8;
const threadsMax = 16;

/** @throws Error where a thread failed: nothing is known then */
export async function judgeStore(setup: Setup, report: Report, threads = availableParallelism()): Promise<Tally> {
  const store = await openStoreReader(setup.store);
  const total = emptyTally();
  const ids = store.sessionIds(setup.sinceMs);
  const workers = Array.from(
    { length: Math.max(1, Math.min(threadsMax, Math.floor(threads))) },
    () => new Worker(new URL("./judge-worker.ts", import.meta.url).href),
  );
  // Asked by several threads, answered in turn.
  let asked: Promise<string[]> = Promise.resolve([]);
  const next = (): Promise<string[]> => {
    asked = asked.then(async () => {
      const some: string[] = [];
      while (some.length < sessionsAtOnce) {
        const { value, done } = await ids.next();
        if (done) break;
        some.push(value);
      }
      return some;
    });
    return asked;
  };
  const serve = (worker: Worker) =>
    new Promise<void>((resolve, reject) => {
      const post = (message: ToWorker) => worker.postMessage(message);
      worker.onerror = (event) => reject(new Error(event.message));
      worker.onmessage = (event: MessageEvent<FromWorker>) => {
        const message = event.data;
        switch (message.type) {
          case "progress":
            return report.progress(message.commands);
          case "changes":
            return report.changes(message.changes);
          case "failed":
            return reject(new Error(message.message));
          case "judged":
            for (const tally of message.tallies) mergeTally(total, tally);
            next().then((sessions) => {
              if (sessions.length === 0) resolve();
              else post({ type: "judge", sessions });
            }, reject);
        }
      };
      post({ type: "start", setup });
    });
  try {
    await Promise.all(workers.map(serve));
    return total;
  } finally {
    for (const worker of workers) worker.terminate();
    store.close();
  }
}
