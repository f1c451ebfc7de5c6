/** Shares the sessions of a store out to threads, some at a time, and adds up what they found. */
import { availableParallelism } from "node:os";
import { compileModule } from "../../../gateway/policy/engine.ts";
import type { Report, Setup } from "./judge-sessions.ts";
import type { FromWorker, ToWorker } from "./judge-worker.ts";
import { Shares } from "./shares.ts";
import { openStoreReader } from "./store-reader.ts";
import { addUnreadable, emptyTally, mergeTally, type Tally } from "./tally.ts";

/** Sessions that a thread is given at a time. */
const sessionsAtOnce = 16;
const threadsMax = 16;

/** Revisions often differ in their data alone. */
function withOneModule(setup: Setup): Setup {
  const { wasm } = setup.base;
  return Buffer.compare(wasm, setup.head.wasm) === 0 ? { ...setup, head: { ...setup.head, wasm } } : setup;
}

/** @throws Error where a thread failed: nothing is known then */
export async function judgeStore(given: Setup, report: Report, threads = availableParallelism()): Promise<Tally> {
  const setup = withOneModule(given);
  const modules = { base: await compileModule(setup.base.wasm), head: await compileModule(setup.head.wasm) };
  const store = await openStoreReader(setup.store);
  const total = emptyTally();
  const workers = Array.from(
    { length: Math.max(1, Math.min(threadsMax, threads)) },
    () => new Worker(new URL("./judge-worker.ts", import.meta.url).href),
  );
  const shares = new Shares(store.list(setup.sinceMs), workers.length);
  const serve = (worker: Worker, thread: number) =>
    new Promise<void>((resolve, reject) => {
      const post = (message: ToWorker) => worker.postMessage(message);
      worker.onerror = (event) => reject(new Error(event.message));
      worker.addEventListener("close", () => reject(new Error("a thread ended before its time")));
      worker.onmessage = (event: MessageEvent<FromWorker>) => {
        const message = event.data;
        switch (message.type) {
          case "ready":
            return post({ type: "start", setup, modules });
          case "progress":
            return report.progress(message.commands);
          case "changes":
            return report.changes(message.changes);
          case "failed":
            return reject(new Error(message.message));
          case "judged":
            if (message.tally !== undefined) mergeTally(total, message.tally);
            shares.next(thread, sessionsAtOnce).then((sessions) => {
              if (sessions.length === 0) resolve();
              else post({ type: "judge", sessions });
            }, reject);
        }
      };
    });
  try {
    await Promise.all(workers.map(serve));
    const missing = await store.missing();
    if (missing > 0) addUnreadable(total, "(sealed)", `${missing} sealed sessions are no longer in the store`);
    return total;
  } finally {
    for (const worker of workers) worker.terminate();
    store.close();
  }
}
