// In Node: `node dist/node.cjs NODE KEY TO AMOUNT` prints the outcome as JSON.

import { demo } from './demo';
import { Request } from './xhr';

// What browsers have and Node has not.
Object.assign(globalThis, { XMLHttpRequest: Request });

const [node, key, to, amount] = process.argv.slice(2);
if (amount === undefined) {
    console.error('usage: node dist/node.cjs NODE KEY TO AMOUNT');
    process.exit(2);
}
demo({ node, key, to, amount: BigInt(amount) }).then(
    (outcome) => {
        console.log(JSON.stringify(outcome, null, 2));
        process.exit(0);
    },
    (error) => {
        console.error(error);
        process.exit(1);
    },
);
