/** The client's messages since its last Sync or simple query: the target answers for them together, and an error takes back what they did. */
export class Batch {
  /** Tells batches apart. */
  number = 0;
  /** It has messages that were forwarded. */
  open = false;
  /** One of them was a Bind or an Execute: a Sync of the gateway's own would take it back, or commit it. */
  holds = false;
  /** Executes of it that were forwarded. */
  executes = 0;
  /** One of them may have ended a transaction block. */
  endsBlock = false;
  /** Names were read in it, and what it did to them may be taken back at its end. */
  readNames = false;
  /** An error was its end: what comes before the next Sync is passed over. */
  failed = false;

  /** What follows is another one; what failed still has its Sync to come. */
  end(): void {
    this.number += 1;
    this.open = false;
    this.holds = false;
    this.executes = 0;
    this.endsBlock = false;
    this.readNames = false;
  }
}
