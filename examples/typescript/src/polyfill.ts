// What the client expects of Node and browsers do not have.

import { Buffer } from 'buffer';

export { Buffer };
