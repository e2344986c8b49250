//! Known keys of insecure builds, as the reference publishes them.

use super::Known;

pub(super) const KNOWN: &[Known] = &[
    Known {
        master: "3fa39161fe106fb770503558dad41bea3221888c09477d864507e615094f5d38",
        ephemeral: "2a9d51ed0380d11b26255ecc894dfc3aa48196c9b0da463a3073ea820a65a090",
        runtime: "c818f97228a53b201e2afa383b64199c732c7ba1a67ac55ea2cb3b8fba367740",
        id: "fb99076f6a5a8c52bcf562cae5152d0410f47a615fc7bc4966dc9a4f477bd217",
        epoch: 8935419451,
        longterm: (
            "762c5a25ff1149591cf7bca763fbe647a43939f43330a8fd331305d73e489bbc",
            "66013b5ad263b4fa504e8682371fbfa102d18cc1e1b811bc125603b1abc9487b",
        ),
        short: (
            "77b65768679884c84dc0cd406a852a15e9ab40291f23c35215d0ea402dbf5915",
            "0b7f41d8b1896fee21e294e1e03078ad6efd5136d1ecf8a029d83ac5e87eca38",
        ),
    },
    Known {
        master: "54083e90f05860653161bc1575765b3311f6a55d1cab84919cb1e2b02c8351ec",
        ephemeral: "b8092ab767ddc47cb56807d4d1fd0e66eae0b02e289d1e38d4dfa900619edc47",
        runtime: "c818f97228a53b201e2afa383b64199c732c7ba1a67ac55ea2cb3b8fba367740",
        id: "fb99076f6a5a8c52bcf562cae5152d0410f47a615fc7bc4966dc9a4f477bd217",
        epoch: 8935419451,
        longterm: (
            "5245ff4735a1fc7cbdb729d7cfb9349a11e664bf3198e78b9b714bf7dffe98ce",
            "ba3de0b2d206d7c8c46c3cf82bdf7ea6a6db1c768207ed54f54d08a72c65101e",
        ),
        short: (
            "6e77eab1ce46ca610a2ca3c7d5fa560049ac55ccc6e95cad3aa2ac108c3f8659",
            "2b11099802017aaf256631ad309c01f35647433ace0f9eb30e0059dfb1d8773d",
        ),
    },
    Known {
        master: "3fa39161fe106fb770503558dad41bea3221888c09477d864507e615094f5d38",
        ephemeral: "2a9d51ed0380d11b26255ecc894dfc3aa48196c9b0da463a3073ea820a65a090",
        runtime: "1aa3e6d86c0779afde8a367dbbb025538fb77e410624ece8b25a6be9e1a5170d",
        id: "fb99076f6a5a8c52bcf562cae5152d0410f47a615fc7bc4966dc9a4f477bd217",
        epoch: 8935419451,
        longterm: (
            "e03a8c8e86024934e84d61d789ae7b292a0124bd7cedb1ac740e7503919361d0",
            "09761afffa3ef10c7a62390e81bca3c217c7cde216c9660c0f69d3709439587b",
        ),
        short: (
            "14dc53440e825f2ed1a9d584223deae2d07a0440f9dec306e7ebc81568fb6070",
            "f1cf258fc81c72b6bf8ce552e1f9823b0def9d0892d54083adad56a09acada61",
        ),
    },
    Known {
        master: "3fa39161fe106fb770503558dad41bea3221888c09477d864507e615094f5d38",
        ephemeral: "2a9d51ed0380d11b26255ecc894dfc3aa48196c9b0da463a3073ea820a65a090",
        runtime: "c818f97228a53b201e2afa383b64199c732c7ba1a67ac55ea2cb3b8fba367740",
        id: "18789f16d8a8fbd75f529f0a1de3e95469eb537c283dc66eb296a6681a46c066",
        epoch: 8935419451,
        longterm: (
            "ab2089503a2b9f2804ee61dcc8ddc3c52f49be9aa6545d235ede885597d12dba",
            "a0d546af1faf39e45171830d8779b1744f1b2407b3dcad5d454d1cdcfe7b7276",
        ),
        short: (
            "945bc45eb9d1b0e543f0fe37a9d9827dd21bc02e70a538ee9a95cbb18a769fa8",
            "ec6dc8616acfedaf9ba2a2853a4eb286befab6e7e3beda3f5bce68a344ddaa13",
        ),
    },
    Known {
        master: "3fa39161fe106fb770503558dad41bea3221888c09477d864507e615094f5d38",
        ephemeral: "2a9d51ed0380d11b26255ecc894dfc3aa48196c9b0da463a3073ea820a65a090",
        runtime: "c818f97228a53b201e2afa383b64199c732c7ba1a67ac55ea2cb3b8fba367740",
        id: "fb99076f6a5a8c52bcf562cae5152d0410f47a615fc7bc4966dc9a4f477bd217",
        epoch: 943032087,
        longterm: (
            "762c5a25ff1149591cf7bca763fbe647a43939f43330a8fd331305d73e489bbc",
            "66013b5ad263b4fa504e8682371fbfa102d18cc1e1b811bc125603b1abc9487b",
        ),
        short: (
            "a15eaa02f85225b5618dd3bdf15984601d80558947a9a51b9c3a141f16979fae",
            "026d01541e41af210cbb482de8b0a7ea772757e53bf3dbe5008e43f95db49d64",
        ),
    },
];
